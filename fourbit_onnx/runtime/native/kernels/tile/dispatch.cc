#include "kernels/tile/tile.h"

namespace fourbit {

const TileKernels& best_tile() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return tile_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return tile_scalar;
}

}  // namespace fourbit
