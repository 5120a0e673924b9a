#include "kernels/direct/direct.h"

namespace fourbit {

const DirectKernels& best_direct() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return direct_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return direct_scalar;
}

}  // namespace fourbit
