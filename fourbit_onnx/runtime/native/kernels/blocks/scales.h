// Scale rules for blocks, one number at a time: fourbit_onnx/formats/block_scales.py.
#pragma once

#include <cstdint>

namespace fourbit {

// m: the largest |x| of the tensor; b: of a block.

float nvfp4_outer(float m);
int32_t nvfp4_block(float b, float outer, bool up);

// The least power of two p, from 2^-81, with m <= 6 p; 1 for 0.
float mxfp4_top(float m);
int32_t mxfp4_block(float b, float top);

float block16_step(float m);
int32_t block16_block(float b, float m);

}  // namespace fourbit
