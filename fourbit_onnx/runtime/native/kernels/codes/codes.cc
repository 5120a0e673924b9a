#include "kernels/codes/codes.h"

#include <algorithm>
#include <cstring>

#include "kernels/bytes/bytes.h"

namespace fourbit {
namespace {

constexpr int64_t kSide = 16;  // codes of a word; a square of them is turned at once

// Nibble j of word i and nibble i of word j change places: halves, then quarters, and so on.
void turn_square(uint64_t* words) {
  uint64_t mask = 0x00000000ffffffff;
  for (int side = 8; side > 0; side /= 2, mask ^= mask << 4 * side) {
    for (int i = 0; i < 16; ++i) {
      if ((i & side) != 0) continue;
      const uint64_t change = (words[i] >> 4 * side ^ words[i + side]) & mask;
      words[i + side] ^= change;
      words[i] ^= change << 4 * side;
    }
  }
}

// An even number of codes to or from a word, the first in its lowest nibble (little-endian).
uint64_t load(const uint8_t* codes, int64_t count) {
  uint64_t word = 0;
  if (count >= kSide) {
    std::memcpy(&word, codes, 8);
  } else {
    std::memcpy(&word, codes, static_cast<size_t>(count / 2));
  }
  return word;
}

void store(uint64_t word, int64_t count, uint8_t* codes) {
  if (count >= kSide) {
    std::memcpy(codes, &word, 8);
  } else {
    std::memcpy(codes, &word, static_cast<size_t>(count / 2));
  }
}

// Every row, of the one and of the other, begins with a byte.
void transpose_squares(const uint8_t* codes, int64_t rows, int64_t columns, int64_t first, int64_t last, uint8_t* out) {
  for (int64_t j = first; j < last; j += kSide) {
    for (int64_t i = 0; i < rows; i += kSide) {
      uint64_t words[kSide] = {};
      const int64_t height = std::min(kSide, rows - i), width = std::min(kSide, last - j);
      for (int64_t r = 0; r < height; ++r) words[r] = load(codes + ((i + r) * columns + j) / 2, width);
      turn_square(words);
      for (int64_t c = 0; c < width; ++c) store(words[c], height, out + ((j + c) * rows + i) / 2);
    }
  }
}

}  // namespace

void transpose_codes(const uint8_t* codes, int64_t rows, int64_t columns, uint8_t* out, const Host& host) {
  if (rows % 2 == 0 && columns % 2 == 0) {
    return parallel_blocks(host, columns, 4 * kSide, [=](int64_t first, int64_t count) {
      transpose_squares(codes, rows, columns, first, first + count, out);
    });
  }
  const int64_t count = rows * columns;
  const auto at = [=](int64_t i) { return i < count ? nibble(codes, i % rows * columns + i / rows) : 0; };
  for (int64_t i = 0; i < count; i += 2) out[i / 2] = static_cast<uint8_t>(at(i) | at(i + 1) << 4);
}

void append_codes(const uint8_t* codes, int64_t count, uint8_t* out, int64_t at) {
  if (at % 2 == 0) {
    std::memcpy(out + at / 2, codes, static_cast<size_t>(divide_up(count, 2)));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    uint8_t& place = out[(at + i) / 2];
    const int code = nibble(codes, i);
    place = static_cast<uint8_t>((at + i) % 2 != 0 ? (place & 15) | code << 4 : code);
  }
}

}  // namespace fourbit
