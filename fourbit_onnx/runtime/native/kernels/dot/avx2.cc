// Without VNNI a step is three instructions: pairs of products to s16, pairs of those to s32, add.
// A pair is at most 2 * 128 * 64 = 16384: maddubs, which saturates at 32767, cannot.
//
// 4 rows x 16 columns at a time: 8 accumulators, 2 vectors of b, a, ones, one product: 13 of 16.
#include <immintrin.h>

#include <cstring>

#include "kernels/dot/dot.h"

namespace fourbit {
namespace {

inline __m256i add_products(__m256i sum, __m256i a, __m256i b, __m256i ones) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
}

void block(const uint8_t* a, const int8_t* b, const int8_t* high, int64_t steps, const int32_t* start, int32_t* c,
           int64_t ldc) {
  const __m256i ones = _mm256_set1_epi16(1);
#define ROWS(X) X(0) X(1) X(2) X(3)
#define DECLARE(i) __m256i l##i = _mm256_setzero_si256(), r##i = l##i;
  ROWS(DECLARE)
#define STEP(i)                          \
  std::memcpy(&quad, x + 4 * i, 4);      \
  ai = _mm256_set1_epi32(quad);          \
  l##i = add_products(l##i, ai, bl, ones); \
  r##i = add_products(r##i, ai, br, ones);
#define PLANE(plane)                                                                         \
  {                                                                                          \
    const uint8_t* x = a;                                                                    \
    const int8_t* y = plane;                                                                 \
    for (int64_t s = steps; s > 0; --s, x += 4 * kRows, y += 4 * kCols) {                    \
      const __m256i bl = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y));            \
      const __m256i br = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y + 32));       \
      int32_t quad;                                                                          \
      __m256i ai;                                                                            \
      ROWS(STEP)                                                                             \
    }                                                                                        \
  }
  if (high != nullptr) {
    PLANE(high)
#define SHIFT(i) l##i = _mm256_slli_epi32(l##i, 6), r##i = _mm256_slli_epi32(r##i, 6);
    ROWS(SHIFT)
  }
  const __m256i sl = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start));
  const __m256i sr = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(start + 8));
#define BEGIN(i) l##i = _mm256_add_epi32(l##i, sl), r##i = _mm256_add_epi32(r##i, sr);
  ROWS(BEGIN)
  PLANE(b)
#define STORE(i)                                                         \
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(c + i * ldc), l##i);    \
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(c + i * ldc + 8), r##i);
  ROWS(STORE)
#undef ROWS
#undef DECLARE
#undef STEP
#undef PLANE
#undef SHIFT
#undef BEGIN
#undef STORE
}

}  // namespace

void dot_avx2(const uint8_t* a, const int8_t* b, const int8_t* high, int64_t steps, const int32_t* start, int32_t* c,
              int64_t ldc) {
  for (int j = 0; j < kCols; j += 16) {
    const int8_t* const other = high != nullptr ? high + 4 * j : nullptr;
    for (int i = 0; i < kRows; i += 4) block(a + 4 * i, b + 4 * j, other, steps, start + j, c + i * ldc + j, ldc);
  }
}

void column_sums_avx2(const int8_t* b, int64_t steps, int32_t* sums) {
  const __m256i units = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  __m256i sum[4] = {};
  for (; steps > 0; --steps, b += 4 * kCols) {
    for (int v = 0; v < 4; ++v) {
      const __m256i quads = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32 * v));
      sum[v] = add_products(sum[v], units, quads, ones);
    }
  }
  for (int v = 0; v < 4; ++v) _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + 8 * v), sum[v]);
}

}  // namespace fourbit
