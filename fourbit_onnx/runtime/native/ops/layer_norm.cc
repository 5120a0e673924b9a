#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>

#include "ops/layers.h"

namespace fourbit {
namespace {

constexpr int64_t kRows = 16;  // of a forward task

void a_row_each(const char* name, const Tensor& tensor, int64_t rows) {
  if (tensor.count() != rows) {
    throw Refused(std::string(name) + " must have one number for each of the " + std::to_string(rows) +
                  " rows; its shape is " + text(tensor.shape()));
  }
}

// How many rows of n elements x has; refuses what has none.
int64_t rows_of(const Tensor& x, const Tensor& scale) {
  const int64_t n = scale.count();
  if (x.count() == 0 || n == 0 || x.count() % n != 0 || x.rank() < scale.rank()) {
    throw Refused("x must have elements, in whole rows of scale, " + text(scale.shape()) + "; its shape is " +
                  text(x.shape()));
  }
  return x.count() / n;
}

}  // namespace

void LayerNorm::compute(const Context& context) const {
  const Tensor x = context.input(0), scale = context.input(1), bias = context.input(2);
  same_shape("scale", scale, "bias", bias);
  const int64_t rows = rows_of(x, scale), n = scale.count();
  Shape statistics = x.shape();
  std::fill(statistics.end() - scale.rank(), statistics.end(), 1);
  float* y = context.output(0, x.shape()).data<float>();
  float* outputs[2];
  for (size_t i = 0; i < 2; ++i) outputs[i] = context.output(1 + i, statistics).data<float>();

  const LayerNormKernels& k = best_layer_norm();
  parallel_blocks(context, rows, kRows, [&](int64_t first, int64_t count) {
    const Buffer<float> scratch(2 * n + 2 * count);
    float *mean = scratch.data() + 2 * n, *inv_std = mean + count;
    const int64_t at = first * n;
    k.forward(x.data<float>() + at, scale.data<float>(), bias.data<float>(), epsilon_, count, n, scratch.data(),
              y != nullptr ? y + at : nullptr, mean, inv_std);
    if (outputs[0] != nullptr) std::copy_n(mean, count, outputs[0] + first);
    if (outputs[1] != nullptr) std::copy_n(inv_std, count, outputs[1] + first);
  });
}

void LayerNormGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), x = context.input(1), scale = context.input(2);
  const Tensor mean = context.input(3), inv_std = context.input(4);
  same_shape("x", x, "dy", dy);
  const int64_t rows = rows_of(x, scale), n = scale.count();
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
