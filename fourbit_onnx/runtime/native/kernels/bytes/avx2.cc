// A byte shuffle is a table of 16: 32 codes a step.
#include <immintrin.h>

#include "kernels/bytes/bytes.h"

namespace fourbit {

template <bool kAdd>
static void unpack(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table, uint8_t* bytes) {
  if (first % 2 != 0 && count > 0) {
    *bytes = static_cast<uint8_t>((kAdd ? *bytes : 0) + table[codes[first / 2] >> 4]);
    ++bytes, ++first, --count;
  }
  codes += first / 2;
  const __m256i values =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  const __m128i mask = _mm_set1_epi8(15);
  const auto convert = [=](int64_t at) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + at / 2));
    const __m128i low = _mm_and_si128(pairs, mask), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), mask);
    const __m256i order = _mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high));
    __m256i* const to = reinterpret_cast<__m256i*>(bytes + at);
    __m256i found = _mm256_shuffle_epi8(values, order);
    if (kAdd) found = _mm256_add_epi8(found, _mm256_loadu_si256(to));
    _mm256_storeu_si256(to, found);
  };
  int64_t i = 0;
  for (; i + 32 <= count; i += 32) convert(i);
  if (!kAdd && i < count && count >= 34) {  // some of the rest once more, so that it is a whole vector
    convert((count - 32) / 2 * 2);
    i = count / 2 * 2;
  }
  for (; i < count; ++i) bytes[i] = static_cast<uint8_t>((kAdd ? bytes[i] : 0) + table[nibble(codes, i)]);
}

void unpack_avx2(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table, uint8_t* bytes) {
  unpack<false>(codes, first, count, table, bytes);
}

void unpack_add_avx2(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table, uint8_t* bytes) {
  unpack<true>(codes, first, count, table, bytes);
}

void interleave_avx2(const uint8_t* const* rows, int64_t count, uint8_t* quads) {
  const auto load = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
  const auto store = [](uint8_t* p, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); };
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m128i r0 = load(rows[0] + i), r1 = load(rows[1] + i), r2 = load(rows[2] + i), r3 = load(rows[3] + i);
    const __m128i low01 = _mm_unpacklo_epi8(r0, r1), high01 = _mm_unpackhi_epi8(r0, r1);
    const __m128i low23 = _mm_unpacklo_epi8(r2, r3), high23 = _mm_unpackhi_epi8(r2, r3);
    store(quads + 4 * i, _mm_unpacklo_epi16(low01, low23));
    store(quads + 4 * i + 16, _mm_unpackhi_epi16(low01, low23));
    store(quads + 4 * i + 32, _mm_unpacklo_epi16(high01, high23));
    store(quads + 4 * i + 48, _mm_unpackhi_epi16(high01, high23));
  }
  for (; i < count; ++i) {
    for (int j = 0; j < 4; ++j) quads[4 * i + j] = rows[j][i];
  }
}

void turn_avx2(const uint8_t* lines, int64_t line, int64_t count, uint8_t* out, int64_t pixel) {
  for (int64_t i = 0; i < count; ++i) {
    for (int j = 0; j < 16; ++j) __builtin_memcpy(out + i * pixel + 4 * j, lines + j * line + 4 * i, 4);
  }
}

void deal_taps_avx2(const uint8_t* codes, int64_t first, int64_t channels, int64_t taps, const uint8_t* table, uint8_t* out,
                    int64_t plane) {
  uint8_t values[9 * 32];  // of the usual filters
  if (taps > 9) return deal_nibbles(codes, first, channels, taps, table, out, plane);
  for (int64_t c = 0; c < channels; c += 32, out += 32) {
    const int64_t some = channels - c < 32 ? channels - c : 32;
    unpack<false>(codes, first + taps * c, taps * some, table, values);
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t i = 0; i < some; ++i) out[t * plane + i] = values[taps * i + t];
    }
  }
}

}  // namespace fourbit
