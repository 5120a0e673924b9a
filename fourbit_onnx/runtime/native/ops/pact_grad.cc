#include "kernels/elements/parallel.h"
#include "ops/kernels.h"

namespace fourbit {

namespace {

void require_bits(const Tensor& bits, const char* name, const Tensor& dy) {
  if (bits.count() == divide_up(dy.count(), 8)) return;
  throw Refused(std::string(name) + " must have " + std::to_string(divide_up(dy.count(), 8)) + " bytes for dy of shape " +
                text(dy.shape()) + "; it has " + std::to_string(bits.count()));
}

}  // namespace

void PactGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), codes = context.input(1), mask = context.input(2);
  if (codes.shape() != dy.shape()) {
    throw Refused("codes must have the shape of dy, " + text(dy.shape()) + "; theirs is " + text(codes.shape()));
  }
  require_bits(mask, "mask", dy);
  const uint8_t* up = nullptr;
  if (plus_) {
    const Tensor rounded_up = context.input(3);
    require_bits(rounded_up, "up", dy);
    up = rounded_up.data<uint8_t>();
  }
  const Tensor dx = context.output(0, dy.shape()), dalpha = context.output(1, {});
  const bool summed = dalpha.present();
  // Nibbles: INT4 -top is 16 - top; UINT4 has no bottom.
  const int bottom = codes.type() == ort::kInt4 ? 16 - top_ : 16;
  const ClippedGradient found =
      clip_gradient(dy.data<float>(), summed ? codes.data<uint8_t>() : nullptr, mask.data<uint8_t>(),
                    summed ? up : nullptr, dy.count(), top_, bottom, dx.data<float>(), context);
  refuse_bad("dy", dy, found.bad);
  if (!summed) return;
  const double rounding = plus_ ? static_cast<double>(found.rounded) / (4.0 * top_) : 0.0;
  *dalpha.data<float>() = static_cast<float>((static_cast<double>(found.sum) + rounding) * 0x1p-30 *
                                             static_cast<double>(found.m));
}

}  // namespace fourbit
