// Included once by each instruction set's file, which defines FOURBIT_ELEMENTS and has its own
// flags: simple loops, that the compiler turns into that set's vectors. Everything here has internal
// linkage and calls nothing of the C++ library: a shared inline function would be compiled once
// for all, perhaps with instructions that the CPU lacks.
//
// Divisions are IEEE float32 divisions, roundings are half to even: the definition's, bit for bit.
#include "kernels/elements/elements.h"

#include "kernels/elements/bits.inl"
#include "kernels/elements/masks.inl"

namespace fourbit {
namespace {

uint32_t largest(const float* x, int64_t n) {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(x[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return most;
}

void range(const float* x, int64_t n, int32_t* low, int32_t* high) {
  int32_t least = 0x7fffffff, most = -0x7fffffff - 1;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t bits = static_cast<int32_t>(bits_of(x[i]));
    const int32_t ordered = bits ^ (bits >> 31 & 0x7fffffff);
    least = ordered < least ? ordered : least;
    most = ordered > most ? ordered : most;
  }
  *low = least;
  *high = most;
}

void moments(const float* x, int64_t n, float m, int64_t* sum, int64_t* squares) {
  uint64_t s1 = 0, s2 = 0;
  for (int64_t i = 0; i < n; ++i) {
    // At most 65536; its square fits 33 bits.
    const float u = __builtin_rintf(__builtin_fabsf(x[i]) / m * 65536.0f);
    const uint64_t integer = static_cast<uint32_t>(static_cast<int32_t>(u));
    s1 += integer;
    s2 += integer * integer;
  }
  *sum += static_cast<int64_t>(s1);
  *squares += static_cast<int64_t>(s2);
}

uint32_t quantize(const float* x, int64_t n, float scale, float zero_point, float low, float high, uint8_t* codes) {
  uint8_t bytes[kBlock];
  uint32_t most = 0;
  for (; n > 0; n -= kBlock, x += kBlock, codes += kBlock / 2) {
    const int64_t count = n < kBlock ? n : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t bits = bits_of(x[i]) & 0x7fffffff;
      most = bits > most ? bits : most;
      float code = __builtin_rintf(x[i] / scale) + zero_point;
      code = code > low ? code : low;  // NaN too becomes a number; it is refused afterwards
      code = code < high ? code : high;
      bytes[i] = static_cast<uint8_t>(static_cast<int32_t>(code) & 15);
    }
    pack_block(bytes, count, codes);
  }
  return most;
}

uint32_t quantize_log(const float* x, int64_t n, uint32_t edge, int shift, uint8_t* codes) {
  const int32_t first = static_cast<int32_t>(edge);
  uint8_t bytes[kBlock];
  uint32_t most = 0;
  for (; n > 0; n -= kBlock, x += kBlock, codes += kBlock / 2) {
    const int64_t count = n < kBlock ? n : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t bits = bits_of(x[i]) & 0x7fffffff;
      most = bits > most ? bits : most;
      int32_t e = ((static_cast<int32_t>(bits) - first) >> shift) + 1;
      e = e > 0 ? e : 0;
      e = e < 7 ? e : 7;
      const int32_t sign = e > 0 ? static_cast<int32_t>(bits_of(x[i]) >> 28 & 8) : 0;
      bytes[i] = static_cast<uint8_t>(e + sign);
    }
    pack_block(bytes, count, codes);
  }
  return most;
}

uint32_t quantize_stochastic(const float* x, const float* u, int64_t n, float scale, const float* levels,
                             bool sign_bit, uint8_t* codes) {
  const float l1 = levels[1], l2 = levels[2], l3 = levels[3], l4 = levels[4], l5 = levels[5], l6 = levels[6],
              l7 = levels[7];
  const int32_t sign = sign_bit ? 8 : 0;
  uint8_t bytes[kBlock];
  uint32_t most = 0;
  for (; n > 0; n -= kBlock, x += kBlock, u += kBlock, codes += kBlock / 2) {
    const int64_t count = n < kBlock ? n : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t bits = bits_of(x[i]) & 0x7fffffff;
      most = bits > most ? bits : most;
      const float m = __builtin_fabsf(x[i]) / scale;
      int32_t e = (m >= l1) + (m >= l2) + (m >= l3) + (m >= l4) + (m >= l5) + (m >= l6) + (m >= l7);
      float low = 0, high = l1;
      low = m >= l1 ? l1 : low, high = m >= l1 ? l2 : high;
      low = m >= l2 ? l2 : low, high = m >= l2 ? l3 : high;
      low = m >= l3 ? l3 : low, high = m >= l3 ? l4 : high;
      low = m >= l4 ? l4 : low, high = m >= l4 ? l5 : high;
      low = m >= l5 ? l5 : low, high = m >= l5 ? l6 : high;
      low = m >= l6 ? l6 : low, high = m >= l6 ? l7 : high;
      e += (u[i] < (m - low) / (high - low)) & (e < 7);  // at the top, low and high are stale and not used
      const int32_t negative = -((x[i] < 0) & (e > 0));
      const int32_t code = sign != 0 ? e + (sign & negative) : (e ^ negative) - negative;
      bytes[i] = static_cast<uint8_t>(code & 15);
    }
    pack_block(bytes, count, codes);
  }
  return most;
}

uint32_t mix(uint32_t h) {
  h ^= h >> 16;
  h *= 0x21f0aaadu;
  h ^= h >> 15;
  h *= 0x735a2d97u;
  return h ^ h >> 15;
}

void random(float* u, int64_t n, uint32_t first, uint32_t low_key, uint32_t high_key) {
  const int32_t count = static_cast<int32_t>(n);
  for (int32_t i = 0; i < count; ++i) {
    const uint32_t h = mix(mix((first + static_cast<uint32_t>(i)) ^ low_key) ^ high_key);
    u[i] = static_cast<float>(static_cast<int32_t>(h >> 8)) * 0x1p-24f;
  }
}

uint32_t quantize_clipped(const float* x, int64_t n, float scale, float low, float high, float below, float above,
                          float least, uint8_t* codes, uint8_t* mask, uint8_t* up) {
  constexpr float kMost = 3.4028235e38f;
  uint8_t bytes[kBlock], inside[kBlock];
  uint32_t bad = 0;
  for (; n > 0; n -= kBlock, x += kBlock) {
    const int64_t count = n < kBlock ? n : kBlock;
    for (int64_t i = 0; i < count; ++i) {
      bad |= !((x[i] >= least) & (x[i] <= kMost));
      float code = __builtin_rintf(x[i] / scale);
      code = code > low ? code : low;  // NaN too becomes a number; it is refused afterwards
      code = code < high ? code : high;
      bytes[i] = static_cast<uint8_t>(static_cast<int32_t>(code) & 15);
      inside[i] = static_cast<uint8_t>((x[i] > below) & (x[i] < above));
    }
    if (codes != nullptr) {
      pack_block(bytes, count, codes);
      codes += kBlock / 2;
    }
    if (mask != nullptr) {
      pack_bits(inside, count, mask);
      mask += kBlock / 8;
    }
    if (up != nullptr) {
      for (int64_t i = 0; i < count; ++i) {
        const float ratio = x[i] / scale;
        inside[i] = static_cast<uint8_t>(inside[i] & (__builtin_rintf(ratio) > ratio));
      }
      pack_bits(inside, count, up);
      up += kBlock / 8;
    }
  }
  return bad;
}

// Bit 4 * i of the result is bit i of a byte.
uint64_t spread(uint64_t byte) {
  uint64_t bits = (byte | byte << 12) & 0x000f000f;
  bits = (bits | bits << 6) & 0x03030303;
  return (bits | bits << 3) & 0x11111111;
}

// Bit 4 * i of the result says whether nibble i is `code`, 0..15.
uint64_t equal_nibbles(uint64_t nibbles, int code) {
  const uint64_t differ = nibbles ^ static_cast<uint64_t>(code) * 0x1111111111111111u;
  return ~(differ | differ >> 1 | differ >> 2 | differ >> 3) & 0x1111111111111111u;
}

bool all_ones(const uint8_t* eight) {
  uint64_t bits;
  __builtin_memcpy(&bits, eight, 8);
  return bits == ~uint64_t{0};
}

// Few elements are clipped: those of 64 are found by their mask, of sixteen by their codes too, and dy is read for them
// alone.
int64_t collect_clipped(const float* dy, const uint8_t* codes, const uint8_t* mask, int64_t n, int top, int bottom,
                        float* clipped) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; i += 16) {
    const int64_t count = n - i < 16 ? n - i : 16;
    if (n - i >= 64 && all_ones(mask + i / 8)) {
      i += 48;
      continue;
    }
    uint64_t nibbles = 0;  // little-endian: element j is nibble j
    if (count == 16) {
      __builtin_memcpy(&nibbles, codes + i / 2, 8);
    } else {
      __builtin_memcpy(&nibbles, codes + i / 2, static_cast<size_t>((count + 1) / 2));
    }
    uint64_t above = equal_nibbles(nibbles, top), below = bottom < 16 ? equal_nibbles(nibbles, bottom) : 0;
    if ((above | below) == 0) continue;
    const uint64_t inside = spread(mask[i / 8]) | (count > 8 ? spread(mask[i / 8 + 1]) << 32 : 0);
    const uint64_t counted = ~inside & (0x1111111111111111u >> 4 * (16 - count));
    for (uint64_t left = (above | below) & counted; left != 0; left &= left - 1) {
      const int place = __builtin_ctzll(left);
      const uint32_t value = bits_of(dy[i + place / 4]) ^ static_cast<uint32_t>(below >> place & 1) << 31;
      __builtin_memcpy(clipped + found++, &value, 4);
    }
  }
  return found;
}

int64_t sum_units(const float* x, int64_t n, float m) {
  int64_t sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    sum += static_cast<int32_t>(__builtin_rintf(x[i] / m * 1073741824.0f));  // at most 2^30
  }
  return sum;
}

int64_t sum_signed_units(const float* x, const uint8_t* mask, const uint8_t* up, int64_t n, float m) {
  float terms[kBlock];
  int64_t sum = 0;
  for (; n > 0; n -= kBlock, x += kBlock, mask += kBlock / 8, up += kBlock / 8) {
    const int64_t count = n < kBlock ? n : kBlock;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
      const uint32_t inside = sixteen_bits(mask + i / 8), down = ~sixteen_bits(up + i / 8);
      uint32_t values[16];
      for (int j = 0; j < 16; ++j) values[j] = kept(x[i + j], inside, j) ^ (down << (31 - j) & 0x80000000u);
      __builtin_memcpy(terms + i, values, sizeof values);
    }
    for (; i < count; ++i) {
      const float term = mask[i / 8] >> i % 8 & 1 ? x[i] : 0.0f;
      terms[i] = up[i / 8] >> i % 8 & 1 ? term : -term;
    }
    int32_t low = 0, high = 0;  // of kBlock terms, each at most 2^30: sums of halves, at most 2^23
    for (int64_t j = 0; j < count; ++j) {
      const int32_t units = static_cast<int32_t>(__builtin_rintf(terms[j] / m * 1073741824.0f));
      low += units & 0x7fff;
      high += units >> 15;
    }
    sum += low + static_cast<int64_t>(high) * 0x8000;
  }
  return sum;
}

}  // namespace

const ElementKernels FOURBIT_ELEMENTS = {largest,       range,  moments,    quantize,
                                         quantize_log, quantize_stochastic, random,
quantize_clipped, rectify, rectify_sum, clip, apply_mask, apply_mask_to_sum,
collect_clipped, sum_units, sum_signed_units};

}  // namespace fourbit
