// The gradient of a softmax, of some rows at a time. The definition is in ops/softmax_grad.py of the package.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

constexpr int64_t kSoftmaxRows = 16;  // of a call at most: a vector of sums

struct SoftmaxGradKernels {
  // dx of `rows` rows of n numbers. Scratch memory for n numbers.
  void (*backward)(const float* dy, const float* y, int64_t rows, int64_t n, float* scratch, float* dx);
};

FOURBIT_TABLE(SoftmaxGradKernels, softmax_grad)

}  // namespace fourbit
