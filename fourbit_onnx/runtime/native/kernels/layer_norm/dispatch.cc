#include "kernels/layer_norm/layer_norm.h"

namespace fourbit {

const LayerNormKernels& best_layer_norm() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return layer_norm_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return layer_norm_scalar;
}

}  // namespace fourbit
