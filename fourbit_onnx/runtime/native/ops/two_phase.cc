#include "ops/two_phase.h"

#include "kernels/gemm/two_phase.h"

namespace fourbit {

Operand two_phase(const Context& context, size_t even) {
  const Tensor codes = context.input(even), others = context.input(even + 1);
  if (codes.shape() != others.shape()) {
    throw Refused("both phases of dy must have one shape; they are " + text(codes.shape()) + " and " + text(others.shape()));
  }
  return two_phases(codes.data<uint8_t>(), others.data<uint8_t>());
}

}  // namespace fourbit
