// A byte shuffle is a table of 16: 64 codes a step.
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
  const __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  const __m512i mask = _mm512_set1_epi16(0x0f0f);
  const auto bytes_of = [=](__m256i pairs) {
    // A byte 0xHL becomes the 16-bit lane 0x0H0L: byte order is the order of the codes.
    const __m512i wide = _mm512_cvtepu8_epi16(pairs);
    const __m512i order = _mm512_and_si512(_mm512_or_si512(wide, _mm512_slli_epi16(wide, 4)), mask);
    return _mm512_shuffle_epi8(values, order);
  };
  int64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    __m512i found = bytes_of(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i / 2)));
    if (kAdd) found = _mm512_add_epi8(found, _mm512_loadu_si512(bytes + i));
    _mm512_storeu_si512(bytes + i, found);
  }
  if (i == count) return;
  // Rows of matrices seldom are whole vectors: the part of a task is 12 columns times any number.
  const int64_t rest = count - i;
  const __mmask32 pairs = static_cast<__mmask32>((uint64_t{1} << (rest + 1) / 2) - 1);
  const __mmask64 present = (uint64_t{1} << rest) - 1;
  __m512i found = bytes_of(_mm256_maskz_loadu_epi8(pairs, codes + i / 2));
  if (kAdd) found = _mm512_add_epi8(found, _mm512_maskz_loadu_epi8(present, bytes + i));
  _mm512_mask_storeu_epi8(bytes + i, present, found);
}

void unpack_avx512vnni(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table, uint8_t* bytes) {
  unpack<false>(codes, first, count, table, bytes);
}

void unpack_add_avx512vnni(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table, uint8_t* bytes) {
  unpack<true>(codes, first, count, table, bytes);
}

void interleave_avx512vnni(const uint8_t* const* rows, int64_t count, uint8_t* quads) {
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 part = static_cast<__mmask16>(count - i >= 16 ? 0xffff : (1 << (count - i)) - 1);
    const auto load = [=](const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(part, p + i)); };
    const __m512i low = _mm512_or_si512(load(rows[0]), _mm512_slli_epi32(load(rows[1]), 8));
    const __m512i high = _mm512_or_si512(load(rows[2]), _mm512_slli_epi32(load(rows[3]), 8));
    _mm512_mask_storeu_epi32(quads + 4 * i, part, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
  }
}

// 16 x 16 words: pairs, then quadruples change places within quarters of a register, then quarters.
static void turn_block(const uint8_t* lines, int64_t line, int64_t count, uint8_t* out, int64_t pixel) {
  __m512i x[16], y[16];
  for (int i = 0; i < 16; ++i) x[i] = _mm512_loadu_si512(lines + i * line);
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // x[i + j]: word j of each quarter, lines i..i + 3
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88), b = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd), d = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
    y[j] = _mm512_shuffle_i32x4(a, b, 0x88);
    y[8 + j] = _mm512_shuffle_i32x4(a, b, 0xdd);
    y[4 + j] = _mm512_shuffle_i32x4(c, d, 0x88);
    y[12 + j] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  if (count >= 16) {
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * pixel, y[i]);
  } else {
    for (int i = 0; i < count; ++i) _mm512_storeu_si512(out + i * pixel, y[i]);
  }
}

void turn_avx512vnni(const uint8_t* lines, int64_t line, int64_t count, uint8_t* out, int64_t pixel) {
  for (int64_t i = 0; i < count; i += 16) turn_block(lines + 4 * i, line, count - i, out + i * pixel, pixel);
}

// A tap of each of 32 channels is picked from three registers of words, four codes each, then shifted down. They hold nine
// taps of all channels.
void deal_taps_avx512vnni(const uint8_t* codes, int64_t first, int64_t channels, int64_t taps, const uint8_t* table,
                          uint8_t* out, int64_t plane) {
  if (taps > 9) return deal_nibbles(codes, first, channels, taps, table, out, plane);
  const int64_t begin = first & 1;  // within the first byte
  codes += (first - begin) / 2;
  alignas(64) uint16_t starts[32];
  for (int64_t i = 0; i < 32; ++i) starts[i] = static_cast<uint16_t>(begin + taps * i);
  const __m512i three = _mm512_set1_epi16(3), low = _mm512_set1_epi16(15), last = _mm512_set1_epi16(64);
  const __m512i values = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  for (int64_t c = 0; c < channels; c += 32, codes += 16 * taps, out += 32) {
    const int64_t some = channels - c < 32 ? channels - c : 32, bytes = (begin + taps * some + 1) / 2;
    const auto load = [=](int64_t from) {
      const int64_t left = bytes - from;
      const __mmask64 part = left >= 64 ? ~__mmask64{0} : left <= 0 ? 0 : (__mmask64{1} << left) - 1;
      return _mm512_maskz_loadu_epi8(part, codes + from);
    };
    const __m512i x = load(0), y = load(64), z = load(128);
    const __mmask32 present = static_cast<__mmask32>((uint64_t{1} << some) - 1);
    __m512i position = _mm512_load_si512(starts);
    for (int64_t t = 0; t < taps; ++t, position = _mm512_add_epi16(position, _mm512_set1_epi16(1))) {
      const __m512i word = _mm512_srli_epi16(position, 2);
      __m512i code = _mm512_permutex2var_epi16(x, word, y);
      code = _mm512_mask_permutexvar_epi16(code, _mm512_cmpge_epu16_mask(word, last), word, z);
      code = _mm512_srlv_epi16(code, _mm512_slli_epi16(_mm512_and_si512(position, three), 2));
      code = _mm512_shuffle_epi8(values, _mm512_and_si512(code, low));
      _mm256_mask_storeu_epi8(out + t * plane, present, _mm512_cvtepi16_epi8(code));
    }
  }
}

}  // namespace fourbit
