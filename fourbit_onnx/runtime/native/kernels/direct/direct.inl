// Included once by each instruction set's file, which defines FOURBIT_DIRECT and has its own flags:
// simple loops, that the compiler turns into that set's vectors. Internal linkage, and nothing of
// the C++ library, for the reason given in elements.inl.
#include "kernels/direct/direct.h"

namespace fourbit {
namespace {

// 16 columns. The compiler's portable vectors, because it makes bad ones of the plain loop; where a
// register is shorter, it takes several.
typedef int16_t Shorts __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));
constexpr int kLanes = 16;

template <int kVectors>
void block(const int16_t* const* rows, const int32_t* weights, int64_t terms, int64_t first, int64_t count,
           float scale, float* out, int64_t stride) {
  Ints sums[kVectors] = {};
  for (int64_t t = 0; t < terms; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      Shorts row;
      __builtin_memcpy(&row, rows[t] + first + v * kLanes, sizeof row);
      sums[v] += weights[t] * __builtin_convertvector(row, Ints);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const Floats result = __builtin_convertvector(sums[v], Floats) * scale;
    float* to = out + v * kLanes * stride;
    if (stride == 1 && count >= kVectors * kLanes) {
      __builtin_memcpy(to, &result, sizeof result);
    } else {
      for (int i = 0; i < kLanes && v * kLanes + i < count; ++i) to[i * stride] = result[i];
    }
  }
}

void weighted(const int16_t* const* rows, const int32_t* weights, int64_t terms, int64_t n, float scale, float* out,
              int64_t stride) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    block<2>(rows, weights, terms, i, n - i, scale, out + i * stride, stride);
  }
  for (; i < n; i += kLanes) block<1>(rows, weights, terms, i, n - i, scale, out + i * stride, stride);
}

int32_t dot(const int16_t* x, const int16_t* y, int64_t n) {
  int32_t sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * y[i];
  return sum;
}

void look_up(const uint8_t* codes, int64_t n, const int16_t* table, int16_t* values) {
  for (int64_t i = 0; i < n; ++i) values[i] = table[codes[i] & 15];
}

}  // namespace

const DirectKernels FOURBIT_DIRECT = {weighted, dot, look_up};

}  // namespace fourbit
