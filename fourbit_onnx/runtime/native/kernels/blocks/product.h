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

// So many terms of (12 * 2^18)^2 stay below 2^53: sums of them are exact in a double.
constexpr int64_t kExactTerms = 910;

struct BlockProduct {
  int64_t batch, k, size;  // of a block: at most kExactTerms
};

// y[p][i][j] = float(sum over k of A[p][i][k] * B[p][j][k]) * a.scale * b.scale,  A = value * scale of its block
void block_matmul(const BlockProduct& shape, const BlockOperand& a, const BlockOperand& b, float* y, const Host& host);

}  // namespace fourbit
