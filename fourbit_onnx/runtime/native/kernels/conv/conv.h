// Convolution of codes and its two gradients.
#pragma once

#include "base/host.h"
#include "kernels/conv/grid.h"
#include "kernels/gemm/matmul.h"

namespace fourbit {

// y = float(conv(x, w)) * scale;  x [batch, groups * channels, input...], w [groups * filters, channels, kernel...]
void conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y, const Host& host);

// dx: the gradient of sum(conv(x, w) * dy) to x
void conv_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                     const Host& host);

// dw: the gradient of sum(conv(x, w) * dy) to w
void conv_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                      const Host& host);

}  // namespace fourbit
