// Batched product of two code matrices.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/gemm/planes.h"

namespace fourbit {

struct MatMulShape {
  int64_t batch, m, k, n;
  bool trans_a, trans_b;  // stored [k, m], [n, k] instead of [m, k], [k, n]
};

// y[b] = float(a[b] * b[b]) * scale + bias,  row-major [batch, m, n]; bias [n], or nullptr for none
void matmul(const MatMulShape& shape, const Operand& a, const Operand& b, float scale, const float* bias, float* y,
            const Host& host);

}  // namespace fourbit
