#include "kernels/elements/elements.h"

namespace fourbit {

const ElementKernels& best_elements() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return elements_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return elements_scalar;
}

}  // namespace fourbit
