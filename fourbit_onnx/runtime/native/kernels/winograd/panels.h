// Transformed weights, as panels for `dot8` and `dot16`.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/dot/dot.h"
#include "kernels/gemm/matmul.h"

namespace fourbit {

// Weights [filters][channels][3][3] of codes. Columns of a panel are kCols filters, and k runs over channels; or, for
// the gradient to the input, columns are channels, k runs over filters and the taps are turned round.
//
//   panel[column / kCols][point][step][column % kCols][4 bytes]
struct PanelShape {
  int64_t columns, k;
  int bytes;  // of a value: a step is 4 / bytes values of k
  int64_t panels() const { return divide_up(columns, int64_t{kCols}); }
  int64_t steps() const { return divide_up(k * bytes, 4); }
  int64_t point_bytes() const { return steps() * kCols * 4; }
};

// `starts` [panel][point][kCols]: what corrects the shift of the inputs, -kInputShift * sum over k
void forward_panels(const Operand& w, int64_t filters, int64_t channels, uint8_t* panels, int32_t* starts,
                    const Host& host);
// Values of 16 bits; nothing to correct.
void backward_panels(const Operand& w, int64_t filters, int64_t channels, uint8_t* panels, const Host& host);

}  // namespace fourbit
