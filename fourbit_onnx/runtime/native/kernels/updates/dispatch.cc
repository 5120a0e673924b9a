#include "kernels/updates/updates.h"

namespace fourbit {

const UpdateKernels& best_updates() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return updates_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return updates_scalar;
}

}  // namespace fourbit
