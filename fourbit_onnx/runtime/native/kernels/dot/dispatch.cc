#include "kernels/dot/dot.h"

namespace fourbit {

Dot best_dot() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return dot_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return dot_scalar;
}

ColumnSums best_column_sums() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return column_sums_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return column_sums_scalar;
}

}  // namespace fourbit
