#include "kernels/elements/parallel.h"
#include "ops/kernels.h"

namespace fourbit {

void PactGrad::compute(const Context& context) const {
  const Tensor dy = context.input(0), codes = context.input(1), mask = context.input(2);
  if (codes.shape() != dy.shape()) {
    throw Refused("codes must have the shape of dy, " + text(dy.shape()) + "; theirs is " + text(codes.shape()));
  }
  if (mask.count() != divide_up(dy.count(), 8)) {
    throw Refused("mask must have " + std::to_string(divide_up(dy.count(), 8)) + " bytes for dy of shape " +
                  text(dy.shape()) + "; it has " + std::to_string(mask.count()));
  }
  const Tensor dx = context.output(0, dy.shape()), dalpha = context.output(1, {});
  // Nibbles: INT4 -top is 16 - top; UINT4 has no bottom.
  const int bottom = codes.type() == ort::kInt4 ? 16 - top_ : 16;
  const ClippedGradient found =
      clip_gradient(dy.data<float>(), dalpha.present() ? codes.data<uint8_t>() : nullptr, mask.data<uint8_t>(),
                    dy.count(), top_, bottom, dx.data<float>(), context);
  refuse_bad("dy", dy, found.bad);
  if (!dalpha.present()) return;
  *dalpha.data<float>() =
      static_cast<float>(static_cast<double>(found.sum) * 0x1p-30 * static_cast<double>(found.m));
}

}  // namespace fourbit
