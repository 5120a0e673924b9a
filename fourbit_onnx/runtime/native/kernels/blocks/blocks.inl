// Included once by each instruction set's file, which defines FOURBIT_BLOCKS and has its own flags:
// simple loops, that the compiler turns into that set's vectors. Internal linkage, and nothing of
// the C++ library, for the reason given in elements.inl.
#include "kernels/blocks/blocks.h"

namespace fourbit {
namespace {

constexpr int kLanes = 16;
typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(16)));

uint32_t magnitude_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits & 0x7fffffff;
}

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <int64_t kCount>
uint32_t largest(const float* x, int64_t n) {
  const int64_t count = kCount > 0 ? kCount : n;
  uint32_t most = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = magnitude_bits(x[i]);
    most = bits > most ? bits : most;
  }
  return most;
}

void maxima(const float* x, int64_t n, int64_t size, uint32_t* most) {
  for (int64_t at = 0; at < n; at += size, ++most) {
    const int64_t count = smaller(size, n - at);
    const uint32_t found = count == kLanes ? largest<kLanes>(x + at, 0) : largest<0>(x + at, count);
    *most = found > *most ? found : *most;
  }
}

// Magnitudes in units of the spacing to integers: half to even, or up where u is below the fraction.
template <bool kRandom>
void round(Floats& r, const Floats& u) {
  Floats q = (r + 0x1p23f) - 0x1p23f;  // half to even, for magnitudes far below 2^22
  if (kRandom) {
    q = q > r ? q - 1.0f : q;
    q = u < r - q ? q + 1.0f : q;
  }
  r = q;
}

// 16 codes. Levels of E2M1 are 1 apart below 4, 2 apart below 8, 4 above, in halves.
template <bool kE2m1, bool kRandom>
void encode_lanes(const float* x, float step, const float* u, uint8_t* bytes) {
  Floats values, random = {};
  __builtin_memcpy(&values, x, sizeof values);
  if (kRandom) __builtin_memcpy(&random, u, sizeof random);
  const Floats zero = {}, one = zero + 1.0f, two = zero + 2.0f;
  Floats r = (values < 0.0f ? -values : values) / step;
  r = r < 16.0f ? r : zero + 16.0f;  // all of these saturate
  if (kE2m1) {
    const Floats wide = r >= 4.0f ? two : zero, wider = r >= 8.0f ? two : zero;
    r *= (r >= 8.0f ? one * 0.25f : r >= 4.0f ? one * 0.5f : one);  // exact
    round<kRandom>(r, random);
    r += wide + wider;
  } else {
    round<kRandom>(r, random);
  }
  r = r < 7.0f ? r : zero + 7.0f;
  Ints code = __builtin_convertvector(r, Ints);
  if (kE2m1) {
    code += (values < 0.0f) & (code > 0) & 8;
  } else {
    code = (values < 0.0f ? -code : code) & 15;
  }
  const Bytes packed = __builtin_convertvector(code, Bytes);
  __builtin_memcpy(bytes, &packed, sizeof packed);
}

template <bool kE2m1, bool kRandom>
void encode_row(const float* x, int64_t n, const float* steps, int64_t size, const float* u, uint8_t* bytes) {
  for (int64_t first = 0; first < n; first += size, ++steps) {
    const int64_t last = smaller(first + size, n);
    int64_t i = first;
    for (; i + kLanes <= last; i += kLanes) {
      encode_lanes<kE2m1, kRandom>(x + i, *steps, kRandom ? u + i : nullptr, bytes + i);
    }
    if (i == last) continue;
    float rest[kLanes] = {}, random[kLanes] = {};
    uint8_t codes[kLanes];
    __builtin_memcpy(rest, x + i, (last - i) * 4);
    if (kRandom) __builtin_memcpy(random, u + i, (last - i) * 4);
    encode_lanes<kE2m1, kRandom>(rest, *steps, random, codes);
    __builtin_memcpy(bytes + i, codes, last - i);
  }
}

void encode_e2m1(const float* x, int64_t n, const float* steps, int64_t size, const float* u, uint8_t* bytes) {
  u != nullptr ? encode_row<true, true>(x, n, steps, size, u, bytes)
               : encode_row<true, false>(x, n, steps, size, u, bytes);
}

void encode_int4(const float* x, int64_t n, const float* steps, int64_t size, const float* u, uint8_t* bytes) {
  u != nullptr ? encode_row<false, true>(x, n, steps, size, u, bytes)
               : encode_row<false, false>(x, n, steps, size, u, bytes);
}

void pack(uint8_t* bytes, int64_t n, uint8_t* codes) {
  if (n % 2 != 0) bytes[n] = 0;
  for (int64_t i = 0; i < (n + 1) / 2; ++i) {
    uint16_t pair;
    __builtin_memcpy(&pair, bytes + 2 * i, 2);  // little-endian: the first is low
    codes[i] = static_cast<uint8_t>(pair | pair >> 4);
  }
}

// The butterfly of the definition: y[i] + y[i + d] where bit d of i is clear, else y[i - d] - y[i].
void butterflies(Floats& y) {
  const Floats s1 = {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1};
  const Floats s2 = {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1};
  const Floats s4 = {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1};
  const Floats s8 = {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1};
  y = __builtin_shufflevector(y, y, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14) + y * s1;
  y = __builtin_shufflevector(y, y, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13) + y * s2;
  y = __builtin_shufflevector(y, y, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11) + y * s4;
  y = __builtin_shufflevector(y, y, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7) + y * s8;
}

void hadamard(const float* x, int64_t n, float* y) {
  const Floats signs = {1, 1, -1, 1, -1, -1, -1, 1, 1, -1, 1, 1, 1, -1, -1, -1};
  for (int64_t at = 0; at < n; at += kLanes) {
    Floats block = {};
    __builtin_memcpy(&block, x + at, smaller(kLanes, n - at) * 4);
    block *= signs;
    butterflies(block);
    block *= 0.25f;
    __builtin_memcpy(y + at, &block, sizeof block);
  }
}

void accumulate(const int32_t* c, const double* a, const double* b, double* sums) {
  for (int i = 0; i < kRows; ++i, c += kCols, sums += kCols) {
    const double row = a[i];
    for (int j = 0; j < kCols; ++j) sums[j] += static_cast<double>(c[j]) * (row * b[j]);
  }
}

}  // namespace

extern const BlockKernels FOURBIT_BLOCKS = {maxima, encode_e2m1, encode_int4, pack, hadamard, accumulate};

}  // namespace fourbit
