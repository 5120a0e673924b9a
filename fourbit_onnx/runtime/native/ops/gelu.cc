#include "kernels/gelu/gelu.h"

#include "ops/layers.h"

namespace fourbit {
namespace {

constexpr int64_t kBlock = 16384;  // elements

}  // namespace

void Gelu::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const float* from = x.data<float>();
  float* to = context.output(0, x.shape()).data<float>();
  const GeluKernels& k = best_gelu();
  parallel_blocks(context, x.count(), kBlock,
                  [&](int64_t at, int64_t count) { k.forward(from + at, count, to + at); });
}

void GeluGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), x = context.input(1);
  same_shape("dy", dy, "x", x);
  const float *gradient = dy.data<float>(), *from = x.data<float>();
  float* to = context.output(0, dy.shape()).data<float>();
  const GeluKernels& k = best_gelu();
  parallel_blocks(context, dy.count(), kBlock,
                  [&](int64_t at, int64_t count) { k.backward(gradient + at, from + at, count, to + at); });
}

}  // namespace fourbit
