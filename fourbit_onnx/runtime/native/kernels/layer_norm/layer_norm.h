// Layer normalisation and its gradient, of some rows at a time. The definition is in ops/layer_norm.py of the package.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

constexpr int64_t kLevelRows = 64;  // rows of a call at most; a power of two
constexpr int64_t kLevels = 8;      // for the sums of 1, 2, 4 ... kLevelRows rows, and one that is on its way

// Numbers of scratch memory that `backward` needs for rows of n elements.
constexpr int64_t layer_norm_scratch(int64_t n) { return (2 * kLevels + 4) * n; }

struct LayerNormKernels {
  // y, mean and 1 / standard deviation of `rows` rows; y may be nullptr. Scratch memory for two rows.
  void (*forward)(const float* x, const float* scale, const float* bias, float epsilon, int64_t rows, int64_t n,
                  float* scratch, float* y, float* mean, float* inv_std);
  // dx of `rows` rows, and their sums by pairs: dscale in sums[0 .. n), dbias in sums[n .. 2n).
  void (*backward)(const float* dy, const float* x, const float* scale, const float* mean, const float* inv_std,
                   int64_t rows, int64_t n, float* scratch, float* dx, float* sums);
  // The sum by pairs of `count` > 0 rows, in the first of them.
  void (*pairs)(float* rows, int64_t count, int64_t n);
};

FOURBIT_TABLE(LayerNormKernels, layer_norm)

}  // namespace fourbit
