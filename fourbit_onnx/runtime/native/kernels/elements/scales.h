// Scale rules: statistics of a tensor to its quantisation scale. The definitions, in scalars.
#pragma once

#include <cstdint>

namespace fourbit {

// m: max |x|;  sum, squares: of u = rint(|w| / m * 65536);  n: elements
float sawb_scale(float m, int64_t sum, int64_t squares, int64_t n);

float absmax_scale(float m);

float underflow_scale(float m);  // max|x| / 64
float minmax_scale(float low, float high, int32_t* zero_point);

// The top level: the smallest power of two T with m <= threshold * T, 2^-87 <= T <= 2^127.
float gradient_top(float m, float threshold);

// One step of the learned scale: double on overflow, halve when half would do; stays in 2^-87..2^115.
float next_top(float m, float top, float threshold);

}  // namespace fourbit
