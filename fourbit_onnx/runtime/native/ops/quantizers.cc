#include <cmath>

#include "kernels/elements/parallel.h"
#include "ops/kernels.h"

namespace fourbit {
namespace {

// The scale (or clip) of a quantiser; what it is does not matter for an empty tensor.
float positive(const Context& context, const Tensor& x, const char* name) {
  const float value = context.scalar(1, name);
  if (x.count() > 0 && !(std::isfinite(value) && value > 0)) {
    throw Refused(std::string(name) + " must be finite and positive; it is " + text(value));
  }
  return value;
}

// PACT with `levels` positive levels; the outputs besides the codes may be unwanted.
void pact(const Context& context, float levels, bool is_signed) {
  const Tensor x = context.input(0);
  const float alpha = positive(context, x, "alpha");
  const float scale = alpha / levels;
  const Tensor codes = context.output(0, x.shape());
  const Tensor scale_out = context.output(1, {});
  const Tensor mask = context.output(2, {divide_up(x.count(), 8)}), up = context.output(3, {divide_up(x.count(), 8)});
  if (scale_out.present()) *scale_out.data<float>() = scale;
  refuse_bad("x", x,
             quantize_clipped(x.data<float>(), x.count(), scale, is_signed ? -levels : 0.0f, levels,
                              is_signed ? -alpha : 0.0f, alpha, codes.data<uint8_t>(), mask.data<uint8_t>(),
                              up.data<uint8_t>(), context));
}

// Stochastic rounding to eight levels by the random numbers of input 2.
void draw(const Context& context, float scale, const float* levels, bool sign_bit) {
  const Tensor x = context.input(0), u = context.input(2);
  if (x.shape() != u.shape()) {
    throw Refused("u must have the shape of x, " + text(x.shape()) + "; it has " + text(u.shape()));
  }
  const Tensor codes = context.output(0, x.shape());
  int64_t bad;
  if (codes.present()) {
    bad = quantize_stochastic(x.data<float>(), u.data<float>(), x.count(), scale, levels, sign_bit,
                              codes.data<uint8_t>(), context);
  } else {
    largest_magnitude(x.data<float>(), x.count(), &bad, context);
  }
  refuse_bad("x", x, bad);
}

float phase_factor(const Attributes& attributes) {
  const int64_t phase = attributes.integer("phase", 0);
  if (phase != 0 && phase != 1) throw Refused("phase must be 0 (even) or 1 (odd); it is " + std::to_string(phase));
  return static_cast<float>(1 + phase);
}

}  // namespace

void QuantizeInt4::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const float scale = positive(context, x, "scale");
  const Tensor codes = context.output(0, x.shape());
  refuse_bad("x", x,
             quantize_integer(x.data<float>(), x.count(), scale, 0, -7, 7, codes.data<uint8_t>(), context));
}

void QuantizeAffine::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const float scale = positive(context, x, "scale");
  const Tensor zero_point = context.input(2);
  if (zero_point.count() != 1) {
    throw Refused("zero_point must be one integer for the whole tensor; its shape is " + text(zero_point.shape()));
  }
  const Tensor codes = context.output(0, x.shape());
  refuse_bad("x", x,
             quantize_integer(x.data<float>(), x.count(), scale, static_cast<float>(*zero_point.data<int32_t>()), -8,
                              7, codes.data<uint8_t>(), context));
}

void QuantizePact::compute(const Context& context) const { pact(context, 15, false); }

void QuantizePactSigned::compute(const Context& context) const { pact(context, 7, true); }

QuantizeLog4::QuantizeLog4(const Attributes& attributes) {
  factor_ = phase_factor(attributes);
  threshold_ = attributes.number("threshold", 2.5f);
}

void QuantizeLog4::compute(const Context& context) const {
  const Tensor dy = context.input(0);
  const float scale = positive(context, dy, "scale") * factor_;
  const Tensor codes = context.output(0, dy.shape());
  const Tensor phase_scale = context.output(1, {});
  if (phase_scale.present()) *phase_scale.data<float>() = scale;
  int64_t bad;
  if (codes.present()) {
    bad = quantize_log(dy.data<float>(), dy.count(), scale, threshold_ / 4, 2, codes.data<uint8_t>(), context);
  } else {
    largest_magnitude(dy.data<float>(), dy.count(), &bad, context);
  }
  refuse_bad("dy", dy, bad);
}

void QuantizeLog2::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const float scale = positive(context, x, "scale");
  const Tensor codes = context.output(0, x.shape());
  refuse_bad("x", x, quantize_log(x.data<float>(), x.count(), scale, 0.75f, 1, codes.data<uint8_t>(), context));
}

void QuantizeInt4Stochastic::compute(const Context& context) const {
  constexpr float levels[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  draw(context, positive(context, context.input(0), "scale"), levels, false);
}

QuantizeLogStochastic::QuantizeLogStochastic(const Attributes& attributes) {
  factor_ = phase_factor(attributes);
  const Shape levels = attributes.integers("levels");
  if (levels.size() != 8 || levels[0] != 0) throw Refused("levels must be eight, from 0; they are " + text(levels));
  for (int k = 0; k < 8; ++k) {
    if (k > 0 && levels[k] <= levels[k - 1]) throw Refused("levels must rise; they are " + text(levels));
    levels_[k] = static_cast<float>(levels[k]);
  }
}

void QuantizeLogStochastic::compute(const Context& context) const {
  const float scale = positive(context, context.input(0), "scale") * factor_;
  const Tensor phase_scale = context.output(1, {});
  if (phase_scale.present()) *phase_scale.data<float>() = scale;
  draw(context, scale, levels_, true);
}

}  // namespace fourbit
