#include "kernels/batch_norm/batch_norm.h"

namespace fourbit {

const BatchNormKernels& best_batch_norm() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return batch_norm_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return batch_norm_scalar;
}

}  // namespace fourbit
