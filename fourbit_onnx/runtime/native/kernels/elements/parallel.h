// The element kernels over whole tensors, in parallel: fixed blocks, integer sums, so that neither
// threads nor instruction set change a bit.
#pragma once

#include <cstdint>

#include "base/host.h"

namespace fourbit {

// max |x|, 0 if empty; *bad: the index of the first x that is not finite, or -1
float largest_magnitude(const float* x, int64_t n, int64_t* bad, const Host& host);

// The smallest and largest x; 0 and 0 if empty. *bad as above.
void value_range(const float* x, int64_t n, float* low, float* high, int64_t* bad, const Host& host);

// sum of u and of u * u, u = rint(|x| / m * 65536)
void magnitude_moments(const float* x, int64_t n, float m, int64_t* sum, int64_t* squares, const Host& host);

// codes = clip(rint(x / scale) + zero_point, low, high). Returns the first x that is not finite, or -1.
int64_t quantize_integer(const float* x, int64_t n, float scale, float zero_point, float low, float high,
                         uint8_t* codes, const Host& host);

// codes = clip(rint(x / scale), low, high), mask bit i = below < x[i] < above, up bit i = that, and rounded up; any output
// may be nullptr. Returns the first x that is not finite, or -1; where low is 0, minus infinity is as good as any number
// below 0.
int64_t quantize_clipped(const float* x, int64_t n, float scale, float low, float high, float below, float above,
                         uint8_t* codes, uint8_t* mask, uint8_t* up, const Host& host);

// Logarithmic codes: a sign bit, and how many of seven thresholds are below |x| / scale; each is one octave above
// the one before, or two. Returns the first x that is not finite, or -1.
int64_t quantize_log(const float* x, int64_t n, float scale, float threshold, int octaves, uint8_t* codes,
                     const Host& host);

// Stochastic rounding by u to eight levels, with a sign bit or two's complement; returns the same.
int64_t quantize_stochastic(const float* x, const float* u, int64_t n, float scale, const float* levels, bool sign_bit,
                            uint8_t* codes, const Host& host);

// y = x < 0 ? +0 : x and mask bit i = x[i] > 0; with b, of x + b. Either output may be nullptr.
void rectify(const float* x, const float* b, int64_t n, float* y, uint8_t* mask, const Host& host);

// y = x within low..high and mask bit i = low <= x[i] <= high; either output may be nullptr.
void clip(const float* x, int64_t n, float low, float high, float* y, uint8_t* mask, const Host& host);

// What a clip does to a gradient. Clipped elements: those whose mask is 0 and whose code is `top`, or `bottom`.
struct ClippedGradient {
  float m;      // max |dy|, 0 if empty
  int64_t bad;  // the index of the first dy that is not finite, or -1
  int64_t sum;  // of rint(dy / m * 2^30) over clipped elements, less that of those with the code `bottom`
  int64_t rounded;  // the same over elements whose mask is 1, less that of those whose bit of `up` is 0
};

// Also dx = mask ? dy : +0, unless dx is nullptr. Without codes no element is clipped, and without `up` none rounded.
ClippedGradient clip_gradient(const float* dy, const uint8_t* codes, const uint8_t* mask, const uint8_t* up, int64_t n,
                              int top, int bottom, float* dx, const Host& host);

// dx = mask ? a + b : +0; without b, a alone
void mask_sum(const float* a, const float* b, const uint8_t* mask, int64_t n, float* dx, const Host& host);

}  // namespace fourbit
