// Loops over operands that have a scale for each block of 16 or 32 elements.
#pragma once

#include <cstdint>

#include "kernels/dot/dot.h"
#include "kernels/variants.h"

namespace fourbit {

// Functions of one instruction set.
struct BlockKernels {
  // maxima[b] = the larger of itself and of the bits of |x| in block b; the last block may be short
  void (*maxima)(const float* x, int64_t n, int64_t size, uint32_t* maxima);
  // bytes[i] = the code of x[i] with the step of its block; u: nullptr rounds to nearest. One row.
  void (*encode_e2m1)(const float* x, int64_t n, const float* steps, int64_t size, const float* u, uint8_t* bytes);
  void (*encode_int4)(const float* x, int64_t n, const float* steps, int64_t size, const float* u, uint8_t* bytes);
  // two bytes to one of codes, the first in the low nibble; bytes[n] must be writable
  void (*pack)(uint8_t* bytes, int64_t n, uint8_t* codes);
  // one row of n to 16 * ceil(n / 16)
  void (*hadamard)(const float* x, int64_t n, float* y);
  // sums[i][j] += c[i][j] * (a[i] * b[j]),  i < kRows, j < kCols; all are integers, and exact
  void (*accumulate)(const int32_t* c, const double* a, const double* b, double* sums);
};

FOURBIT_TABLE(BlockKernels, blocks)

}  // namespace fourbit
