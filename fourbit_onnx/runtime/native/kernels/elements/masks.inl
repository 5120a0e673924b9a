// Activations with the mask of their gradient, and that gradient. A part of elements.inl: internal linkage, for the
// reason given there.
#pragma once

#include <cstdint>

#include "kernels/elements/bits.inl"

namespace fourbit {
namespace {

void rectify(const float* x, int64_t n, float* y, uint8_t* mask) {
  uint8_t positive[kBlock];
  for (; n > 0; n -= kBlock, x += kBlock) {
    const int64_t count = n < kBlock ? n : kBlock;
    if (y != nullptr) {
      for (int64_t i = 0; i < count; ++i) y[i] = x[i] < 0 ? 0.0f : x[i];
      y += kBlock;
    }
    if (mask != nullptr) {
      for (int64_t i = 0; i < count; ++i) positive[i] = x[i] > 0;
      pack_bits(positive, count, mask);
      mask += kBlock / 8;
    }
  }
}

void rectify_sum(const float* a, const float* b, int64_t n, float* y, uint8_t* mask) {
  float sum[kBlock];
  for (; n > 0; n -= kBlock, a += kBlock, b += kBlock) {
    const int64_t count = n < kBlock ? n : kBlock;
    for (int64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
    rectify(sum, count, y, mask);
    if (y != nullptr) y += kBlock;
    if (mask != nullptr) mask += kBlock / 8;
  }
}

void clip(const float* x, int64_t n, float low, float high, float* y, uint8_t* mask) {
  uint8_t inside[kBlock];
  for (; n > 0; n -= kBlock, x += kBlock) {
    const int64_t count = n < kBlock ? n : kBlock;
    if (y != nullptr) {
      for (int64_t i = 0; i < count; ++i) {
        const float capped = x[i] > high ? high : x[i];
        y[i] = x[i] < low ? low : capped;
      }
      y += kBlock;
    }
    if (mask != nullptr) {
      for (int64_t i = 0; i < count; ++i) inside[i] = static_cast<uint8_t>((x[i] >= low) & (x[i] <= high));
      pack_bits(inside, count, mask);
      mask += kBlock / 8;
    }
  }
}

void apply_mask(const float* dy, const uint8_t* mask, int64_t n, float* dx) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const uint32_t bits = sixteen_bits(mask + i / 8);
    uint32_t values[16];
    for (int j = 0; j < 16; ++j) values[j] = kept(dy[i + j], bits, j);
    __builtin_memcpy(dx + i, values, sizeof values);
  }
  for (; i < n; ++i) dx[i] = mask[i / 8] >> i % 8 & 1 ? dy[i] : 0.0f;
}

void apply_mask_to_sum(const float* a, const float* b, const uint8_t* mask, int64_t n, float* dx) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const uint32_t bits = sixteen_bits(mask + i / 8);
    uint32_t values[16];
    for (int j = 0; j < 16; ++j) values[j] = kept(a[i + j] + b[i + j], bits, j);
    __builtin_memcpy(dx + i, values, sizeof values);
  }
  for (; i < n; ++i) dx[i] = mask[i / 8] >> i % 8 & 1 ? a[i] + b[i] : 0.0f;
}

}  // namespace
}  // namespace fourbit
