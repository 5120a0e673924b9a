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

void dot_avx512vnni(const uint8_t* a, const int8_t* b, int64_t steps, int32_t* c, int64_t ldc) {
#define DECLARE(i) __m512i l##i = _mm512_setzero_si512(), r##i = l##i;
  ROWS(DECLARE)
  for (; steps > 0; --steps, a += 4 * kRows, b += 4 * kCols) {
    const __m512i bl = _mm512_loadu_si512(b), br = _mm512_loadu_si512(b + 64);
    int32_t quad;
    __m512i ai;
#define STEP(i)                                               \
  std::memcpy(&quad, a + 4 * i, 4);                           \
  ai = _mm512_set1_epi32(quad);                               \
  asm("vpdpbusd %2, %1, %0" : "+v"(l##i) : "v"(ai), "v"(bl)); \
  asm("vpdpbusd %2, %1, %0" : "+v"(r##i) : "v"(ai), "v"(br));
    ROWS(STEP)
  }
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
