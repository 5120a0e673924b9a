// One step of an LSTM behind its products, and its gradient. The definition is in ops/reference/lstm_cell.py.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/variants.h"

namespace fourbit {

// Functions of one instruction set, of one sample. The four parts of sums and gates are n numbers each: i, o, f, g.
struct LstmCellKernels {
  void (*forward)(const float* p, const float* y, const float* c, int64_t n, float* h, float* new_c, float* gates);
  void (*backward)(const float* dh, const float* more_dh, const float* dc, const float* gates, const float* c,
                   const float* new_c, int64_t n, float* dsums, float* previous_dc);
};

FOURBIT_TABLE(LstmCellKernels, lstm_cell)

}  // namespace fourbit
