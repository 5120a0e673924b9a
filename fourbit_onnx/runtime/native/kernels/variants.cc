// Picks the variant of the instruction set in use. Every kernel asks at each call, so that a test may change it. Not inline in
// the headers: of the copies of an inline function one is linked, and that may be the one that was compiled for AVX-512.
#include "kernels/variants.h"

#include "kernels/batch_norm/batch_norm.h"
#include "kernels/blocks/blocks.h"
#include "kernels/bytes/bytes.h"
#include "kernels/direct/direct.h"
#include "kernels/dot/dot.h"
#include "kernels/elements/elements.h"
#include "kernels/gelu/gelu.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/lstm_cell/lstm_cell.h"
#include "kernels/softmax_grad/softmax_grad.h"
#include "kernels/sum_rows/sum_rows.h"
#include "kernels/tile/tile.h"
#include "kernels/updates/updates.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {

#define FOURBIT_PICK(isa, suffix, name) \
  if (active_isa() == isa) return name##_##suffix;
#define FOURBIT_BEST(Result, name)          \
  Result best_##name() {                    \
    FOURBIT_VARIANTS(FOURBIT_PICK, name)    \
    return name##_scalar;                   \
  }

FOURBIT_BEST(Unpack, unpack)
FOURBIT_BEST(UnpackAdd, unpack_add)
FOURBIT_BEST(Interleave, interleave)
FOURBIT_BEST(Turn, turn)
FOURBIT_BEST(DealTaps, deal_taps)
FOURBIT_BEST(Dot, dot)
FOURBIT_BEST(ColumnSums, column_sums)

FOURBIT_BEST(const BatchNormKernels&, batch_norm)
FOURBIT_BEST(const BlockKernels&, blocks)
FOURBIT_BEST(const DirectKernels&, direct)
FOURBIT_BEST(const ElementKernels&, elements)
FOURBIT_BEST(const GeluKernels&, gelu)
FOURBIT_BEST(const LayerNormKernels&, layer_norm)
FOURBIT_BEST(const LstmCellKernels&, lstm_cell)
FOURBIT_BEST(const SoftmaxGradKernels&, softmax_grad)
FOURBIT_BEST(const SumRowsKernels&, sum_rows)
FOURBIT_BEST(const TileKernels&, tile)
FOURBIT_BEST(const UpdateKernels&, updates)
FOURBIT_BEST(const WinogradKernels&, winograd)

}  // namespace fourbit
