#include "kernels/codes/codes.h"

#include "ops/kernels.h"

namespace fourbit {

void TransposeCodes::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const Shape& shape = x.shape();
  if (shape.size() != 2) throw Refused("x must have two dimensions; its shape is " + text(shape));
  const Tensor y = context.output(0, {shape[1], shape[0]});
  transpose_codes(x.data<uint8_t>(), shape[0], shape[1], y.data<uint8_t>(), context);
}

void JoinCodes::compute(const Context& context) const {
  const Tensor a = context.input(0), b = context.input(1);
  Shape shape = a.shape(), other = b.shape();
  const std::string refusal = "a and b must have rows, and be equal but for how many; their shapes are " + text(shape) +
                              " and " + text(other);
  if (shape.empty() || other.empty()) throw Refused(refusal);
  const int64_t rows = shape[0] + other[0];
  shape[0] = other[0] = rows;
  if (shape != other) throw Refused(refusal);
  uint8_t* const y = context.output(0, shape).data<uint8_t>();
  append_codes(a.data<uint8_t>(), a.count(), y, 0);
  append_codes(b.data<uint8_t>(), b.count(), y, a.count());
}

}  // namespace fourbit
