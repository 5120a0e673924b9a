// Batch normalisation in training, of a few channels at a time.
//
// Sums are sums of integers, u = rint(x * q) with q = 2^bits / max |x|: exact in any order. The definition is the
// function body in ops/batch_norm.py.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

// Neighbouring channels of a tensor of shape [rows, all channels, n]: rows run through memory in one piece, channels
// do not. So the first pass reads rows and packs channels, for the passes that follow to find them in the cache.
struct Channels {
  int64_t rows, count, n;
  int64_t stride;  // from row to row: all channels times n
  int64_t elements() const { return rows * n; }
};

constexpr int kLanes = 16;  // maxima side by side

// Pointers to tensors are to the first of the channels, arrays of statistics have one number for each of them, and
// packed arrays one channel after the other. xhat = (x - mean) * inv_std, each operation rounded to float32.
struct BatchNormKernels {
  // Copies x. The largest of the bits of |x| of channel c is that of most[kLanes * c] and the kLanes - 1 after it.
  void (*pack)(const float* x, Channels channels, float* packed, uint32_t* most);
  // Of one channel: *sum += sum of u, *squares += sum of u * u; |u| <= 2^19, so up to 2^24 elements.
  void (*moments)(const float* packed, int64_t n, float q, int64_t* sum, int64_t* squares);
  // y = (x - mean) * scale + beta
  void (*normalise)(const float* packed, Channels channels, const float* mean, const float* scale, const float* beta,
                    float* y);
  // Copies dy and xhat; the largest of the bits of |dy|, and of those of |dy * xhat|.
  void (*pack_products)(const float* dy, const float* x, Channels channels, const float* mean, const float* inv_std,
                        float* packed_dy, float* packed_xhat, uint32_t* most_dy, uint32_t* most_product);
  // Of one channel: *sum_dy += sum of rint(dy * q_dy), *sum_product += sum of rint(dy * xhat * q_product); each is at
  // most 2^30 + 128.
  void (*sum_products)(const float* dy, const float* xhat, int64_t n, float q_dy, float q_product, int64_t* sum_dy,
                       int64_t* sum_product);
  // dx = (dy - mean_dy - xhat * mean_product) * scale
  void (*input_grad)(const float* dy, const float* xhat, Channels channels, const float* mean_dy,
                     const float* mean_product, const float* scale, float* dx);
};

FOURBIT_TABLE(BatchNormKernels, batch_norm)

}  // namespace fourbit
