#include "kernels/winograd/winograd.h"

namespace fourbit {

const WinogradKernels& best_winograd() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return winograd_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return winograd_scalar;
}

}  // namespace fourbit
