// Included once by each instruction set's file, which defines FOURBIT_DIRECT and has its own flags:
// simple loops, that the compiler turns into that set's vectors. Internal linkage, and nothing of
// the C++ library, for the reason given in elements.inl.
#include "kernels/direct/direct.h"

namespace fourbit {
namespace {

// The compiler's portable vectors, because it makes bad ones of plain loops over terms; where a register is shorter, it
// takes several.
typedef float Floats __attribute__((vector_size(4 * kDirectLanes)));

inline Floats load(const float* from) {
  Floats lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

inline void store(const Floats& lanes, float* to) { __builtin_memcpy(to, &lanes, sizeof lanes); }

template <bool kAdd>
void to_floats(const uint8_t* low, const uint8_t* high, int64_t n, float* values) {
  if (high == nullptr) {
    for (int64_t i = 0; i < n; ++i) values[i] = static_cast<int8_t>(low[i]) + (kAdd ? values[i] : 0.0f);
  } else {
    for (int64_t i = 0; i < n; ++i) {
      values[i] = static_cast<int16_t>(low[i] | high[i] << 8) + (kAdd ? values[i] : 0.0f);
    }
  }
}

void to_floats(const uint8_t* low, const uint8_t* high, int64_t n, bool add, float* values) {
  add ? to_floats<true>(low, high, n, values) : to_floats<false>(low, high, n, values);
}

template <int kVectors>
void weighted(const float* image, const int64_t* places, const float* weights, int64_t terms, float scale,
              float* out) {
  Floats sums[kVectors] = {};
  for (int64_t t = 0; t < terms; ++t) {
    for (int v = 0; v < kVectors; ++v) sums[v] += weights[t] * load(image + places[t] + v * kDirectLanes);
  }
  for (int v = 0; v < kVectors; ++v) store(sums[v] * scale, out + v * kDirectLanes);
}

void weighted(const float* image, const int64_t* places, const float* weights, int64_t terms, int64_t n, float scale,
              float* out) {
  int64_t i = 0;
  for (; i + 3 * kDirectLanes < n; i += 4 * kDirectLanes) {
    weighted<4>(image + i, places, weights, terms, scale, out + i);
  }
  for (; i < n; i += kDirectLanes) weighted<1>(image + i, places, weights, terms, scale, out + i);
}

template <int kTerms>
void correlate(const float* image, const int64_t* places, const float* y, int64_t n, float* sums) {
  Floats lanes[kTerms];
  for (int t = 0; t < kTerms; ++t) lanes[t] = load(sums + t * kDirectLanes);
  for (int64_t i = 0; i < n; i += kDirectLanes) {
    const Floats by = load(y + i);
    for (int t = 0; t < kTerms; ++t) lanes[t] += by * load(image + places[t] + i);
  }
  for (int t = 0; t < kTerms; ++t) store(lanes[t], sums + t * kDirectLanes);
}

void correlate(const float* image, const int64_t* places, int64_t terms, const float* y, int64_t n, float* sums) {
  int64_t t = 0;
  for (; t + 9 <= terms; t += 9) correlate<9>(image, places + t, y, n, sums + t * kDirectLanes);
  for (; t + 4 <= terms; t += 4) correlate<4>(image, places + t, y, n, sums + t * kDirectLanes);
  for (; t < terms; ++t) correlate<1>(image, places + t, y, n, sums + t * kDirectLanes);
}

}  // namespace

const DirectKernels FOURBIT_DIRECT = {to_floats, weighted, correlate};

}  // namespace fourbit
