// What happens to a 12 x 32 tile of integer sums: corrections, planes, rescaling to float32.
#pragma once

#include <cstdint>

#include "kernels/dot/dot.h"
#include "kernels/variants.h"

namespace fourbit {

constexpr int kTile = kRows * kCols;

// Functions of one instruction set. A tile is kRows x kCols, row-major, dense.
struct TileKernels {
  // sum[i][j] += factor * (c[i][j] - shift * column[j])
  void (*add64)(const int32_t* c, const int32_t* column, int64_t factor, int64_t shift, int64_t* sum);
  // out[i * stride + j] = float(sum[i][j]) * scale + bias[j],  for i < rows, j < cols: one rounding, one product, one
  // addition, unless there is no bias
  void (*store32)(const int32_t* sum, float scale, const float* bias, float* out, int64_t stride, int rows, int cols);
  void (*store64)(const int64_t* sum, float scale, const float* bias, float* out, int64_t stride, int rows, int cols);
};

FOURBIT_TABLE(TileKernels, tile)

}  // namespace fourbit
