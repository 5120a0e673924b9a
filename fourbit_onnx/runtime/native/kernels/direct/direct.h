// Sums over shifted images, for groups too small for a 12 x 32 tile (depthwise convolution).
//
// Values are whole numbers in float32. Every sum must stay below 2^24: then it is exact, in any order, and its float is
// that of the integer.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

// Functions work on as many numbers at a time; what they read and write goes on to the next multiple of it.
constexpr int64_t kDirectLanes = 16;

struct DirectKernels {
  // values[i] = the signed number of 16 bits whose halves are low[i] and high[i], of 8 bits if high is nullptr; added to
  // what is there if `add`
  void (*to_floats)(const uint8_t* low, const uint8_t* high, int64_t n, bool add, float* values);
  // out[i] = (sum over t < terms of weights[t] * image[i + places[t]]) * scale,  for i < n
  void (*weighted)(const float* image, const int64_t* places, const float* weights, int64_t terms, int64_t n,
                   float scale, float* out);
  // the sum of sums[t * kDirectLanes + lane] over lanes grows by that of image[i + places[t]] * y[i] over i < n;
  // y goes on with zeros, what image goes on with is finite
  void (*correlate)(const float* image, const int64_t* places, int64_t terms, const float* y, int64_t n, float* sums);
};

FOURBIT_TABLE(DirectKernels, direct)

}  // namespace fourbit
