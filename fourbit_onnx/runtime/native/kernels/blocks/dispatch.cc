#include "kernels/blocks/blocks.h"

namespace fourbit {

const BlockKernels& best_blocks() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return blocks_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return blocks_scalar;
}

}  // namespace fourbit
