// The sum by pairs of some rows at a time. The definition is in ops/sum_rows.py of the package.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

constexpr int64_t kSummedRows = 64;      // of a call at most; a power of two
constexpr int64_t kSummedColumns = 256;  // of a call at most: what it works on stays in the first cache

constexpr int64_t kSumRowsScratch = (kSummedRows / 8 + 8) * kSummedColumns;

struct SumRowsKernels {
  // sum[i] of x[i + row * stride], row < rows, i < columns. Scratch memory for kSumRowsScratch numbers.
  void (*sum)(const float* x, int64_t rows, int64_t columns, int64_t stride, float* scratch, float* sum);
  // The sum by pairs of `count` > 0 rows, in the first of them.
  void (*pairs)(float* rows, int64_t count, int64_t n);
};

FOURBIT_TABLE(SumRowsKernels, sum_rows)

}  // namespace fourbit
