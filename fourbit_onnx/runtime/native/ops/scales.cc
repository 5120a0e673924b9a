#include "kernels/elements/scales.h"

#include <cmath>

#include "kernels/elements/parallel.h"
#include "ops/kernels.h"

namespace fourbit {
namespace {

float magnitude(const Context& context, const Tensor& x, const char* name) {
  int64_t bad;
  const float m = largest_magnitude(x.data<float>(), x.count(), &bad, context);
  refuse_bad(name, x, bad);
  return m;
}

void give(const Context& context, size_t index, float value) {
  const Tensor output = context.output(index, {});
  if (output.present()) *output.data<float>() = value;
}

}  // namespace

void SawbScale::compute(const Context& context) const {
  const Tensor w = context.input(0);
  const float m = magnitude(context, w, "w");
  int64_t sum = 0, squares = 0;
  if (m != 0) magnitude_moments(w.data<float>(), w.count(), m, &sum, &squares, context);
  give(context, 0, sawb_scale(m, sum, squares, w.count()));
}

void AbsMaxScale::compute(const Context& context) const {
  give(context, 0, absmax_scale(magnitude(context, context.input(0), "x")));
}

void UnderflowScale::compute(const Context& context) const {
  give(context, 0, underflow_scale(magnitude(context, context.input(0), "x")));
}

void MinMaxScale::compute(const Context& context) const {
  const Tensor x = context.input(0);
  float low, high;
  int64_t bad;
  value_range(x.data<float>(), x.count(), &low, &high, &bad, context);
  refuse_bad("x", x, bad);
  int32_t zero_point;
  give(context, 0, minmax_scale(low, high, &zero_point));
  const Tensor output = context.output(1, {});
  if (output.present()) *output.data<int32_t>() = zero_point;
}

void GradientScale::compute(const Context& context) const {
  const float m = magnitude(context, context.input(0), "dy");
  give(context, 0, m == 0 ? 1.0f : gradient_top(m, threshold_) / 4096.0f);
}

void LearnedGradientScale::compute(const Context& context) const {
  const float m = magnitude(context, context.input(0), "dy");
  float top = context.scalar(1, "top");
  if (!std::isfinite(top) || top < 0) throw Refused("top must be finite and not negative; it is " + text(top));
  if (top == 0 && m == 0) {  // never set, and nothing to set it by
    give(context, 0, 1.0f);
    give(context, 1, 0.0f);
    return;
  }
  if (top == 0) top = gradient_top(m, threshold_);
  give(context, 0, top / 4096.0f);
  give(context, 1, next_top(m, top, threshold_));
}

DitherScale::DitherScale(const Attributes& attributes) : factors_(attributes.integers("factors")) {
  // Beyond 2^24, u times their number could round up to a place past the end.
  if (factors_.empty() || factors_.size() > 65536) throw Refused("factors must be 1 to 65536 integers");
}

void DitherScale::compute(const Context& context) const {
  const float scale = context.scalar(0, "scale"), u = context.scalar(1, "u");
  if (!(u >= 0 && u < 1)) throw Refused("u must be in [0, 1); it is " + std::to_string(u));
  const float place = u * static_cast<float>(factors_.size());
  give(context, 0, scale * (static_cast<float>(factors_[static_cast<size_t>(place)]) / 1024.0f));
}

}  // namespace fourbit
