#include "kernels/sum_rows/sum_rows.h"

namespace fourbit {

const SumRowsKernels& best_sum_rows() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return sum_rows_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return sum_rows_scalar;
}

}  // namespace fourbit
