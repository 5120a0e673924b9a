#include "kernels/elements/parallel.h"
#include "ops/layers.h"

namespace fourbit {
namespace {

void rectified(const Context& context, const Tensor& x, const float* other) {
  const Tensor y = context.output(0, x.shape());
  const Tensor mask = context.output(1, {divide_up(x.count(), 8)});
  rectify(x.data<float>(), other, x.count(), y.data<float>(), mask.data<uint8_t>(), context);
}

void masked(const Context& context, const Tensor& dy, const float* other, const Tensor& mask) {
  if (mask.count() != divide_up(dy.count(), 8)) {
    throw Refused("mask must have " + std::to_string(divide_up(dy.count(), 8)) + " bytes for dy of shape " +
                  text(dy.shape()) + "; it has " + std::to_string(mask.count()));
  }
  const Tensor dx = context.output(0, dy.shape());
  mask_sum(dy.data<float>(), other, mask.data<uint8_t>(), dy.count(), dx.data<float>(), context);
}

}  // namespace

void Relu::compute(const Context& context) const { rectified(context, context.input(0), nullptr); }

void AddRelu::compute(const Context& context) const {
  const Tensor a = context.input(0), b = context.input(1);
  same_shape("a", a, "b", b);
  rectified(context, a, b.data<float>());
}

void Clip::compute(const Context& context) const {
  const Tensor x = context.input(0), y = context.output(0, x.shape());
  const Tensor mask = context.output(1, {divide_up(x.count(), 8)});
  clip(x.data<float>(), x.count(), low_, high_, y.data<float>(), mask.data<uint8_t>(), context);
}

void ReluGrad::compute(const Context& context) const {
  masked(context, context.input(0), nullptr, context.input(1));
}

void SumReluGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), other = context.input(1);
  same_shape("dy", dy, "other", other);
  masked(context, dy, other.data<float>(), context.input(2));
}

}  // namespace fourbit
