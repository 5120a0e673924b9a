// Convolutions of groups with very few channels (depthwise ones above all), without matrices: a row
// of the output is a weighted sum of shifted rows of the input.
#pragma once

#include "base/host.h"
#include "kernels/conv/conv.h"

namespace fourbit {

// Whether this way is open and shorter: small groups, values in 16 bits, sums in 32.
bool is_small(const ConvGeometry& g, const Operand& a, const Operand& b);

// As conv, conv_input_grad and conv_weight_grad of conv.h, if `is_small`.
void small_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y, const Host& host);
void small_conv_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                           const Host& host);
void small_conv_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                            const Host& host);

}  // namespace fourbit
