// Sums over a few shifted rows, for groups too small for a 12 x 32 tile (depthwise convolution).
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

// Rows must be readable (their values do not matter) this far beyond n.
constexpr int64_t kDirectSlack = 16;

// Functions of one instruction set. All sums must fit 32 bits.
struct DirectKernels {
  // out[i * stride] = float(sum over t < terms of weights[t] * rows[t][i]) * scale,  for i < n
  void (*weighted)(const int16_t* const* rows, const int32_t* weights, int64_t terms, int64_t n, float scale,
                   float* out, int64_t stride);
  // sum over i < n of x[i] * y[i]
  int32_t (*dot)(const int16_t* x, const int16_t* y, int64_t n);
  // values[i] = table[codes[i]], codes one a byte
  void (*look_up)(const uint8_t* codes, int64_t n, const int16_t* table, int16_t* values);
};

FOURBIT_TABLE(DirectKernels, direct)

}  // namespace fourbit
