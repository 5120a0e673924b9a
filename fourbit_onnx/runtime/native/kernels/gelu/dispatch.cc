#include "kernels/gelu/gelu.h"

namespace fourbit {

const GeluKernels& best_gelu() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return gelu_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return gelu_scalar;
}

}  // namespace fourbit
