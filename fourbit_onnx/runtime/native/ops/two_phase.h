// A gradient as the mean of what it is on both grids of log4 (fourbit_onnx/formats/log4.py).
#pragma once

#include "kernels/gemm/planes.h"
#include "ops/context.h"

namespace fourbit {

// Of codes on the even grid, input `even`, and on the odd one, the next input, in units of two_phase_scale.
Operand two_phase(const Context& context, size_t even);

// By the smallest level of the even grid.
inline float two_phase_scale(float scale) { return scale * 1.5f; }

}  // namespace fourbit
