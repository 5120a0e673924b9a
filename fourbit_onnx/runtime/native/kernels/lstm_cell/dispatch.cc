#include "kernels/lstm_cell/lstm_cell.h"

namespace fourbit {

const LstmCellKernels& best_lstm_cell() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return lstm_cell_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return lstm_cell_scalar;
}

}  // namespace fourbit
