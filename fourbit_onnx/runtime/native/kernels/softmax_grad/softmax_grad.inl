// Included once by each instruction set's file, which defines FOURBIT_SOFTMAX_GRAD and has its own flags: simple loops,
// that the compiler turns into that set's vectors. Everything here has internal linkage and calls nothing of the C++
// library (see kernels/elements/elements.inl).
#include "kernels/softmax_grad/softmax_grad.h"
#include "kernels/tree_sums.inl"

namespace fourbit {
namespace {

constexpr int64_t kFew = 16;  // terms that are left of a row when it is added together with the other rows

// The terms of the sum of a row, down to kFew; returns how many. Half of them are added as they are made.
int64_t few_terms(const float* __restrict dy, const float* __restrict y, int64_t n, float* terms) {
  const int64_t count = (n + 1) / 2;
  for (int64_t i = 0; i < n - count; ++i) terms[i] = dy[i] * y[i] + dy[count + i] * y[count + i];
  if (n - count < count) terms[count - 1] = dy[count - 1] * y[count - 1];
  return halves_down_to(kFew, terms, count);
}

// The last rounds of halves are shorter than a vector: they are done in all rows at once, a row an element.
void backward(const float* dy, const float* y, int64_t rows, int64_t n, float* scratch, float* dx) {
  float turned[kFew * kSoftmaxRows] = {};
  int64_t left = 0;
  for (int64_t row = 0; row < rows; ++row) {
    left = few_terms(dy + row * n, y + row * n, n, scratch);
    for (int64_t i = 0; i < left; ++i) turned[i * kSoftmaxRows + row] = scratch[i];
  }
  while (left > 1) {
    const int64_t count = (left + 1) / 2;
    add(turned, turned + count * kSoftmaxRows, (left - count) * kSoftmaxRows);
    left = count;
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float *__restrict gradient = dy + row * n, *__restrict of = y + row * n;
    float* __restrict to = dx + row * n;
    const float sum = turned[row];
    for (int64_t i = 0; i < n; ++i) to[i] = of[i] * (gradient[i] - sum);
  }
}

}  // namespace

const SoftmaxGradKernels FOURBIT_SOFTMAX_GRAD = {backward};

}  // namespace fourbit
