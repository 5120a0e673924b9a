// Included once by each instruction set's file, which defines FOURBIT_BATCH_NORM and has its own flags: simple
// loops, that the compiler turns into that set's vectors. Everything here has internal linkage and calls nothing
// of the C++ library (see kernels/elements/elements.inl).
#include "kernels/batch_norm/batch_norm.h"

namespace fourbit {
namespace {

uint32_t magnitude_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}

constexpr int64_t kAhead = 512;  // elements, half a page: at every page the hardware's prefetching begins anew

uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

void clear(uint32_t* lanes, int64_t n) {
  for (int64_t i = 0; i < n; ++i) lanes[i] = 0;
}

void pack(const float* __restrict x, Channels cs, float* __restrict packed, uint32_t* __restrict most) {
  clear(most, kLanes * cs.count);
  for (int64_t row = 0; row < cs.rows; ++row) {
    for (int64_t c = 0; c < cs.count; ++c) {
      const float* from = x + row * cs.stride + c * cs.n;
      float* to = packed + (c * cs.rows + row) * cs.n;
      uint32_t* lanes = most + kLanes * c;
      int64_t i = 0;
      for (; i + kLanes <= cs.n; i += kLanes) {
        for (int j = 0; j < kLanes; ++j) {
          lanes[j] = larger(lanes[j], magnitude_bits(from[i + j]));
          to[i + j] = from[i + j];
        }
      }
      for (; i < cs.n; ++i) {
        lanes[0] = larger(lanes[0], magnitude_bits(from[i]));
        to[i] = from[i];
      }
    }
  }
}

void moments(const float* packed, int64_t n, float q, int64_t* sum, int64_t* squares) {
  constexpr int64_t kBlock = 2048;  // elements: their sum is within 2^30
  int64_t s1 = 0, s2 = 0;
  for (; n > 0; n -= kBlock, packed += kBlock) {
    const int64_t count = n < kBlock ? n : kBlock;
    int32_t part = 0;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t u = static_cast<int32_t>(__builtin_rintf(packed[i] * q));
      part += u;
      s2 += static_cast<int64_t>(u) * u;
    }
    s1 += part;
  }
  *sum += s1;
  *squares += s2;
}

void normalise(const float* __restrict packed, Channels cs, const float* mean, const float* scale, const float* beta,
               float* __restrict y) {
  for (int64_t row = 0; row < cs.rows; ++row) {
    for (int64_t c = 0; c < cs.count; ++c) {
      const float* from = packed + (c * cs.rows + row) * cs.n;
      float* to = y + row * cs.stride + c * cs.n;
      const float m = mean[c], s = scale[c], b = beta[c];
      for (int64_t i = 0; i < cs.n; ++i) to[i] = (from[i] - m) * s + b;
    }
  }
}

void pack_products(const float* __restrict dy, const float* __restrict x, Channels cs, const float* mean,
                   const float* inv_std, float* __restrict packed_dy, float* __restrict packed_xhat,
                   uint32_t* __restrict most_dy, uint32_t* __restrict most_product) {
  clear(most_dy, kLanes * cs.count);
  clear(most_product, kLanes * cs.count);
  for (int64_t row = 0; row < cs.rows; ++row) {
    for (int64_t c = 0; c < cs.count; ++c) {
      const int64_t from = row * cs.stride + c * cs.n, to = (c * cs.rows + row) * cs.n;
      const float m = mean[c], s = inv_std[c];
      uint32_t *m1 = most_dy + kLanes * c, *m2 = most_product + kLanes * c;
      int64_t i = 0;
      for (; i + kLanes <= cs.n; i += kLanes) {
        __builtin_prefetch(dy + from + i + kAhead);
        __builtin_prefetch(x + from + i + kAhead);
        for (int j = 0; j < kLanes; ++j) {
          const float d = dy[from + i + j], xhat = (x[from + i + j] - m) * s;
          packed_dy[to + i + j] = d;
          packed_xhat[to + i + j] = xhat;
          m1[j] = larger(m1[j], magnitude_bits(d));
          m2[j] = larger(m2[j], magnitude_bits(d * xhat));
        }
      }
      for (; i < cs.n; ++i) {
        const float d = dy[from + i], xhat = (x[from + i] - m) * s;
        packed_dy[to + i] = d;
        packed_xhat[to + i] = xhat;
        m1[0] = larger(m1[0], magnitude_bits(d));
        m2[0] = larger(m2[0], magnitude_bits(d * xhat));
      }
    }
  }
}

void sum_products(const float* dy, const float* xhat, int64_t n, float q_dy, float q_product, int64_t* sum_dy,
                  int64_t* sum_product) {
  int64_t s1 = 0, s2 = 0;
  for (int64_t i = 0; i < n; ++i) {
    s1 += static_cast<int32_t>(__builtin_rintf(dy[i] * q_dy));
    s2 += static_cast<int32_t>(__builtin_rintf(dy[i] * xhat[i] * q_product));
  }
  *sum_dy += s1;
  *sum_product += s2;
}

void input_grad(const float* __restrict dy, const float* __restrict xhat, Channels cs, const float* mean_dy,
                const float* mean_product, const float* scale, float* __restrict dx) {
  for (int64_t row = 0; row < cs.rows; ++row) {
    for (int64_t c = 0; c < cs.count; ++c) {
      const int64_t from = (c * cs.rows + row) * cs.n, to = row * cs.stride + c * cs.n;
      const float a = mean_dy[c], b = mean_product[c], s = scale[c];
      for (int64_t i = 0; i < cs.n; ++i) dx[to + i] = (dy[from + i] - a - xhat[from + i] * b) * s;
    }
  }
}

}  // namespace

const BatchNormKernels FOURBIT_BATCH_NORM = {pack,          moments,      normalise,
                                             pack_products, sum_products, input_grad};

}  // namespace fourbit
