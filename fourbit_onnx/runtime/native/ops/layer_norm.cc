#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>

#include "ops/kernels.h"

namespace fourbit {
namespace {

void a_row_each(const char* name, const Tensor& tensor, int64_t rows) {
  if (tensor.count() != rows) {
    throw Refused(std::string(name) + " must have one number for each of the " + std::to_string(rows) +
                  " rows; its shape is " + text(tensor.shape()));
  }
}

}  // namespace

void LayerNormGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), x = context.input(1), scale = context.input(2);
  const Tensor mean = context.input(3), inv_std = context.input(4);
  same_shape("x", x, "dy", dy);
  const int64_t n = scale.count();
  if (x.count() == 0 || n == 0 || x.count() % n != 0) {
    throw Refused("x must have elements, in whole rows of scale, " + text(scale.shape()) + "; its shape is " +
                  text(x.shape()));
  }
  const int64_t rows = x.count() / n;
  a_row_each("mean", mean, rows);
  a_row_each("inv_std", inv_std, rows);

  const LayerNormKernels& k = best_layer_norm();
  const int64_t blocks = divide_up(rows, kLevelRows);
  const Buffer<float> sums(2 * n * blocks);
  float* dx = context.output(0, x.shape()).data<float>();
  parallel_ranges(context, blocks, [&](int64_t first, int64_t last) {
    const Buffer<float> scratch(layer_norm_scratch(n));
    for (int64_t block = first; block < last; ++block) {
      const int64_t row = block * kLevelRows, at = row * n;
      k.backward(dy.data<float>() + at, x.data<float>() + at, scale.data<float>(), mean.data<float>() + row,
                 inv_std.data<float>() + row, std::min(kLevelRows, rows - row), n, scratch.data(),
                 dx != nullptr ? dx + at : nullptr, sums.data() + 2 * n * block);
    }
  });
  k.pairs(sums.data(), blocks, 2 * n);
  for (size_t i = 0; i < 2; ++i) {
    float* to = context.output(1 + i, scale.shape()).data<float>();
    if (to != nullptr) std::copy_n(sums.data() + n * static_cast<int64_t>(i), n, to);
  }
}

}  // namespace fourbit
