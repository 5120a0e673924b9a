// 24 accumulators (12 rows x 2 vectors) + 2 vectors of b + 1 of a: 27 of 32 registers.
//
// Named accumulators and inline assembly on purpose: with an array of them and the intrinsic,
// GCC 12 spills or moves registers at every step and halves the speed. Count again after a change:
// the loop has 24 vpdpbusd, 12 broadcasts, 2 loads and no access to the stack.
#include <immintrin.h>

#include <cstring>

#include "kernels/dot/dot.h"

namespace fourbit {

#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

void dot_avx512vnni(const uint8_t* a, const int8_t* b, const int8_t* high, int64_t steps, const int32_t* start,
                    int32_t* c, int64_t ldc) {
#define DECLARE(i) __m512i l##i = _mm512_setzero_si512(), r##i = l##i;
  ROWS(DECLARE)
#define STEP(i)                                               \
  std::memcpy(&quad, x + 4 * i, 4);                           \
  ai = _mm512_set1_epi32(quad);                               \
  asm("vpdpbusd %2, %1, %0" : "+v"(l##i) : "v"(ai), "v"(bl)); \
  asm("vpdpbusd %2, %1, %0" : "+v"(r##i) : "v"(ai), "v"(br));
#define PLANE(plane)                                                              \
  {                                                                               \
    const uint8_t* x = a;                                                         \
    const int8_t* y = plane;                                                      \
    for (int64_t s = steps; s > 0; --s, x += 4 * kRows, y += 4 * kCols) {         \
      const __m512i bl = _mm512_loadu_si512(y), br = _mm512_loadu_si512(y + 64);  \
      int32_t quad;                                                               \
      __m512i ai;                                                                 \
      ROWS(STEP)                                                                  \
    }                                                                             \
  }
  if (high != nullptr) {
    PLANE(high)
#define SHIFT(i) l##i = _mm512_slli_epi32(l##i, 6), r##i = _mm512_slli_epi32(r##i, 6);
    ROWS(SHIFT)
  }
  const __m512i sl = _mm512_loadu_si512(start), sr = _mm512_loadu_si512(start + 16);
#define BEGIN(i) l##i = _mm512_add_epi32(l##i, sl), r##i = _mm512_add_epi32(r##i, sr);
  ROWS(BEGIN)
  PLANE(b)
#define STORE(i)                          \
  _mm512_storeu_si512(c + i * ldc, l##i); \
  _mm512_storeu_si512(c + i * ldc + 16, r##i);
  ROWS(STORE)
}

void column_sums_avx512vnni(const int8_t* b, int64_t steps, int32_t* sums) {
  const __m512i units = _mm512_set1_epi8(1);
  __m512i left = _mm512_setzero_si512(), right = left;
  for (; steps > 0; --steps, b += 4 * kCols) {
    left = _mm512_dpbusd_epi32(left, units, _mm512_loadu_si512(b));
    right = _mm512_dpbusd_epi32(right, units, _mm512_loadu_si512(b + 64));
  }
  _mm512_storeu_si512(sums, left);
  _mm512_storeu_si512(sums + 16, right);
}

}  // namespace fourbit
