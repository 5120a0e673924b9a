// 24 accumulators, two vectors of b, one of a; named, with inline assembly, for the reason given in
// dot/avx512vnni.cc.
#include <immintrin.h>

#include "kernels/bytes/bytes.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

#define ROWS4(X) X(0, p0, 0) X(1, p0, 1) X(2, p0, 2) X(3, p3, 0)
#define ROWS12(X) ROWS4(X) X(4, p3, 1) X(5, p3, 2) X(6, p6, 0) X(7, p6, 1) X(8, p6, 2) X(9, p9, 0) X(10, p9, 1) X(11, p9, 2)

#define DECLARE(i, p, n)                                           \
  __m512i l##i = _mm512_loadu_si512(start + i * start_row), \
          r##i = _mm512_loadu_si512(start + i * start_row + 16);
#define STORE(i, p, n)                      \
  _mm512_storeu_si512(c + i * c_row, l##i); \
  _mm512_storeu_si512(c + i * c_row + 16, r##i);

// Three rows from each pointer: an address holds a register times 1 or 2, not times 3.
#define DOT(name, ROWS, STEP)                                                                              \
  void name(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t steps, const int32_t* start, \
            int64_t start_row, int32_t* c, int64_t c_row) {                                                \
    const uint8_t *p0 = a, *p3 = a + 3 * a_row, *p6 = a + 6 * a_row, *p9 = a + 9 * a_row;                  \
    ROWS(DECLARE)                                                                                          \
    for (; steps > 0; --steps, b += 4 * kCols) {                                                           \
      const __m512i bl = _mm512_loadu_si512(b), br = _mm512_loadu_si512(b + 64);                           \
      int32_t quad;                                                                                        \
      __m512i x;                                                                                           \
      ROWS(STEP)                                                                                           \
      p0 += a_step, p3 += a_step, p6 += a_step, p9 += a_step;                                              \
    }                                                                                                      \
    (void)p6, (void)p9;                                                                                    \
    ROWS(STORE)                                                                                            \
  }

#define STEP8(i, p, n)                                       \
  __builtin_memcpy(&quad, p + n * a_row, 4);                 \
  x = _mm512_set1_epi32(quad);                               \
  asm("vpdpbusd %2, %1, %0" : "+v"(l##i) : "v"(x), "v"(bl)); \
  asm("vpdpbusd %2, %1, %0" : "+v"(r##i) : "v"(x), "v"(br));
#define STEP16(i, p, n)                                      \
  __builtin_memcpy(&quad, p + n * a_row, 4);                 \
  x = _mm512_set1_epi32(quad);                               \
  asm("vpdpwssd %2, %1, %0" : "+v"(l##i) : "v"(x), "v"(bl)); \
  asm("vpdpwssd %2, %1, %0" : "+v"(r##i) : "v"(x), "v"(br));

DOT(dot8_12, ROWS12, STEP8)
DOT(dot8_4, ROWS4, STEP8)
DOT(dot16_12, ROWS12, STEP16)
DOT(dot16_4, ROWS4, STEP16)

template <auto kTwelve, auto kFour>
void dot(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t steps, const int32_t* start,
         int64_t start_row, int32_t* c, int64_t c_row, int64_t rows) {
  if (rows == 12) return kTwelve(a, a_row, a_step, b, steps, start, start_row, c, c_row);
  for (int64_t i = 0; i < rows; i += 4) {
    kFour(a + i * a_row, a_row, a_step, b, steps, start + i * start_row, start_row, c + i * c_row, c_row);
  }
}

constexpr auto dot8 = dot<dot8_12, dot8_4>;
constexpr auto dot16 = dot<dot16_12, dot16_4>;

constexpr auto turn = turn_avx512vnni;

// Sixteen pairs, even[i] below odd[i], as words of 32 bits.
__m512i words(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
__m512i words(const int16_t* p) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }

template <typename T>
void pair(const T* even, const T* odd, int64_t n, int16_t* out) {
  const auto some = [=](int64_t i) {
    const __m512i high = _mm512_slli_epi32(words(odd + i), 16);
    _mm512_storeu_si512(out + 2 * i, _mm512_mask_blend_epi16(0xaaaaaaaa, words(even + i), high));
  };
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) some(i);
  if (i < n) some(n - 16);
}

}  // namespace
}  // namespace fourbit

#define FOURBIT_WINOGRAD winograd_avx512vnni
#include "kernels/winograd/winograd.inl"
