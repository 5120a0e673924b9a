// Without VNNI a step of 8 bits is three instructions: a pair is at most 2 * 2^14 - 2, which maddubs
// does not saturate. 4 rows x 16 columns at a time: 8 accumulators, 2 vectors of b, a, ones, one product.
#include <immintrin.h>

#include "kernels/bytes/bytes.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

struct Bytes {
  static __m256i product(__m256i a, __m256i b) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
  }
};

struct Words {
  static __m256i product(__m256i a, __m256i b) { return _mm256_madd_epi16(a, b); }
};

template <typename Lanes>
void dot(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t steps, const int32_t* start,
         int64_t start_row, int32_t* c, int64_t c_row, int64_t rows) {
  const auto vector = [](const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); };
  const auto store = [](void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); };
  for (int j = 0; j < kCols; j += 16) {
    for (int64_t i = 0; i < rows; i += 4) {
      const uint8_t* left = a + i * a_row;
      const uint8_t* right = b + 4 * j;
      const int32_t* from = start + i * start_row + j;
      int32_t* to = c + i * c_row + j;
#define ROWS(X) X(0) X(1) X(2) X(3)
#define DECLARE(r) __m256i l##r = vector(from + r * start_row), h##r = vector(from + r * start_row + 8);
      ROWS(DECLARE)
      for (int64_t k = 0; k < steps; ++k, left += a_step, right += 4 * kCols) {
        const __m256i bl = vector(right), bh = vector(right + 32);
        int32_t quad;
        __m256i x;
#define STEP(r)                                            \
  __builtin_memcpy(&quad, left + r * a_row, 4);            \
  x = _mm256_set1_epi32(quad);                             \
  l##r = _mm256_add_epi32(l##r, Lanes::product(x, bl));    \
  h##r = _mm256_add_epi32(h##r, Lanes::product(x, bh));
        ROWS(STEP)
      }
#define STORE(r) store(to + r * c_row, l##r), store(to + r * c_row + 8, h##r);
      ROWS(STORE)
#undef ROWS
#undef DECLARE
#undef STEP
#undef STORE
    }
  }
}

constexpr auto dot8 = dot<Bytes>;
constexpr auto dot16 = dot<Words>;

constexpr auto turn = turn_avx2;

template <typename T>
void pair(const T* __restrict even, const T* __restrict odd, int64_t n, int16_t* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[2 * i] = even[i], out[2 * i + 1] = odd[i];
}

}  // namespace
}  // namespace fourbit

#define FOURBIT_WINOGRAD winograd_avx2
#include "kernels/winograd/winograd.inl"
