// The three products of a 3x3 convolution with stride 1 by Winograd's method; arguments and results as in
// conv/conv.h, the same bits.
#pragma once

#include "base/host.h"
#include "kernels/conv/grid.h"
#include "kernels/gemm/matmul.h"

namespace fourbit {

// Whether the values fit (see winograd.h), and the sizes are such that it is the faster way.
bool winograd_suits(const ConvGeometry& g, const Operand& x, const Operand& w);
bool winograd_suits_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w);
bool winograd_suits_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy);

// Tiles whose sums of products of transformed values, 4 * largest each, fit 32 bits.
int64_t most_tiles(const Operand& x, const Operand& dy);

void winograd_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y, const Host& host);
void winograd_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                         const Host& host);
void winograd_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                          const Host& host);

}  // namespace fourbit
