// Element-wise loops and sums over part of a tensor: quantisers, statistics, the PACT gradient.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

// The bits of |x| are ordered as |x| is, infinity and NaN last.
constexpr uint32_t kLargestFinite = 0x7f7fffff;

// Functions of one instruction set. Where codes are written or read, the part starts at an even
// element; where masks are, at a multiple of eight. Tail bits are 0.
struct ElementKernels {
  // max of the bits of |x|, 0 if empty: above kLargestFinite if some x is not finite
  uint32_t (*largest)(const float* x, int64_t n);
  // smallest and largest x, as integers in the same order (see `ordered`); n > 0
  void (*range)(const float* x, int64_t n, int32_t* low, int32_t* high);
  // u = rint(|x| / m * 65536):  *sum += sum of u,  *squares += sum of u * u
  void (*moments)(const float* x, int64_t n, float m, int64_t* sum, int64_t* squares);
  // codes = clip(rint(x / scale) + zero_point, low, high), two a byte; returns `largest`
  uint32_t (*quantize)(const float* x, int64_t n, float scale, float zero_point, float low, float high,
                       uint8_t* codes);
  // codes = e + 8 * (x < 0 && e > 0), e = how many of edge + (k << shift), k = 0..6, are at most the bits of |x|
  uint32_t (*quantize_log)(const float* x, int64_t n, uint32_t edge, int shift, uint8_t* codes);
  // m = |x| / scale lies between levels e and e + 1 (of 8, from 0); e + 1 if u < (m - level[e]) / (level[e + 1] -
  // level[e]), at most 7. codes = that with a sign bit of 8, or negated; never minus zero. Returns `largest`.
  uint32_t (*quantize_stochastic)(const float* x, const float* u, int64_t n, float scale, const float* levels,
                                  bool sign_bit, uint8_t* codes);
  // u = multiples of 2^-24 in [0, 1), from `first` and its successors, scrambled with the keys
  void (*random)(float* u, int64_t n, uint32_t first, uint32_t low_key, uint32_t high_key);
  // codes = clip(rint(x / scale), low, high), mask bit i = below < x[i] && x[i] < above, up bit i = that and
  // rint(x[i] / scale) > x[i] / scale; any output may be nullptr. Returns 0 if every x[i] is in least .. the
  // largest float, which NaN is not.
  uint32_t (*quantize_clipped)(const float* x, int64_t n, float scale, float low, float high, float below,
                               float above, float least, uint8_t* codes, uint8_t* mask, uint8_t* up);
  // y = x < 0 ? +0 : x and bit i = x[i] > 0; either output may be nullptr
  void (*rectify)(const float* x, int64_t n, float* y, uint8_t* mask);
  // the same of a + b
  void (*rectify_sum)(const float* a, const float* b, int64_t n, float* y, uint8_t* mask);
  // y = x < low ? low : x > high ? high : x and bit i = low <= x[i] && x[i] <= high; either output may be nullptr
  void (*clip)(const float* x, int64_t n, float low, float high, float* y, uint8_t* mask);
  // dx = mask ? dy : +0
  void (*apply_mask)(const float* dy, const uint8_t* mask, int64_t n, float* dx);
  // dx = mask ? a + b : +0
  void (*apply_mask_to_sum)(const float* a, const float* b, const uint8_t* mask, int64_t n, float* dx);
  // clipped = dy where code == top, -dy where code == bottom, of the elements whose mask is 0; returns how many
  int64_t (*collect_clipped)(const float* dy, const uint8_t* codes, const uint8_t* mask, int64_t n, int top,
                             int bottom, float* clipped);
  // sum of rint(x / m * 2^30)
  int64_t (*sum_units)(const float* x, int64_t n, float m);
  // the same of the elements whose mask is 1, those whose bit of `up` is 0 subtracted
  int64_t (*sum_signed_units)(const float* x, const uint8_t* mask, const uint8_t* up, int64_t n, float m);
};

FOURBIT_TABLE(ElementKernels, elements)

}  // namespace fourbit
