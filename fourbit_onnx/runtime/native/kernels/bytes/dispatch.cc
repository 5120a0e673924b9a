#include "kernels/bytes/bytes.h"

namespace fourbit {

Unpack best_unpack() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return unpack_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return unpack_scalar;
}

Interleave best_interleave() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return interleave_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return interleave_scalar;
}

Turn best_turn() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return turn_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return turn_scalar;
}

}  // namespace fourbit
