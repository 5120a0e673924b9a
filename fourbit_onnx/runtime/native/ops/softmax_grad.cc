#include "kernels/softmax_grad/softmax_grad.h"

#include <algorithm>

#include "ops/layers.h"

namespace fourbit {
namespace {

constexpr int64_t kCached = 4096;  // elements of y that are read twice, at most, if a row is not longer

}  // namespace

void SoftmaxGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), y = context.input(1);
  same_shape("dy", dy, "y", y);
  if (y.count() == 0 || y.rank() == 0) {
    throw Refused("y must have a last axis and elements; its shape is " + text(y.shape()));
  }
  const int64_t n = y.shape().back(), rows = y.count() / n;
  const int64_t at_a_time = std::clamp<int64_t>(kCached / n, 1, kSoftmaxRows);
  const SoftmaxGradKernels& k = best_softmax_grad();
  float* dx = context.output(0, y.shape()).data<float>();
  parallel_blocks(context, rows, at_a_time, [&](int64_t first, int64_t count) {
    const Buffer<float> scratch(n);
    for (int64_t row = first; row < first + count; row += at_a_time) {
      const int64_t at = row * n;
      k.backward(dy.data<float>() + at, y.data<float>() + at, std::min(at_a_time, first + count - row), n,
                 scratch.data(), dx + at);
    }
  });
}

}  // namespace fourbit
