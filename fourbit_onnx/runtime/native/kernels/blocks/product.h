// The product of two operands with a scale for each block along the summed axis.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/gemm/planes.h"

namespace fourbit {

// codes [batch, count, k]; scales [batch, count, ceil(k / size)]
struct BlockOperand {
  const uint8_t* codes;
  const int32_t* scales;
  Values values;  // within ±16
  float scale;
  int64_t count;
};

struct BlockProduct {
  int64_t batch, k, size;
};

// y[p][i][j] = float(sum over k of A[p][i][k] * B[p][j][k]) * a.scale * b.scale,  A = value * scale of its block
void block_matmul(const BlockProduct& shape, const BlockOperand& a, const BlockOperand& b, float* y, const Host& host);

}  // namespace fourbit
