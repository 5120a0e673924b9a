// Codes to bytes: the first half of all packing.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

// bytes[i] = table[nibble first + i of codes],  for i < count
//
// codes  two a byte, the even one in the low nibble; `first` may be odd
// bytes  may not overlap the codes
using Unpack = void (*)(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table,
                        uint8_t* bytes);

// Likewise, bytes[i] += table[...], which wraps around.
using UnpackAdd = Unpack;

// quads[4 * i + j] = rows[j][i],  for i < count, j < 4
using Interleave = void (*)(const uint8_t* const* rows, int64_t count, uint8_t* quads);

// Words of four bytes change from 16 lines to columns: out[i * pixel + 4 * j] = lines[j * line + 4 * i], i < count, j < 16;
// `line` and `pixel` in bytes. Up to 15 words beyond the end of a line are read.
using Turn = void (*)(const uint8_t* lines, int64_t line, int64_t count, uint8_t* out, int64_t pixel);

// Weights of a filter by taps instead of by channels: out[t * plane + c] = table[nibble first + taps * c + t of codes],
// c < channels, t < taps. A negative plane turns the taps round.
using DealTaps = void (*)(const uint8_t* codes, int64_t first, int64_t channels, int64_t taps, const uint8_t* table,
                          uint8_t* out, int64_t plane);

FOURBIT_FUNCTION(Unpack, unpack)
FOURBIT_FUNCTION(UnpackAdd, unpack_add)
FOURBIT_FUNCTION(Interleave, interleave)
FOURBIT_FUNCTION(Turn, turn)
FOURBIT_FUNCTION(DealTaps, deal_taps)

constexpr int64_t kTurnLines = 16;

// Internal linkage: each instruction set must keep its own copy of what is here.

// A panel of `width` lines (a multiple of four; there must be kTurnLines of them for each begun sixteen): its `steps` words
// each, out[step][width]. Beyond the panel nothing is written.
static inline void turn_panel(Turn turn, const uint8_t* lines, int64_t line, int64_t steps, int64_t width, uint8_t* out) {
  for (int64_t i = 0; i < width && steps > 0; i += kTurnLines, lines += kTurnLines * line, out += 4 * kTurnLines) {
    // A turned step is 64 bytes. Where the panel is narrower, the next step overwrites what is too much; the last one
    // would reach into another panel, which another thread may have written.
    const bool narrow = width - i < kTurnLines;
    turn(lines, line, narrow ? steps - 1 : steps, out, 4 * width);
    if (!narrow) continue;
    for (int64_t j = 0; j < width - i; ++j) {
      __builtin_memcpy(out + (steps - 1) * 4 * width + 4 * j, lines + j * line + 4 * (steps - 1), 4);
    }
  }
}

static inline int nibble(const uint8_t* codes, int64_t i) { return codes[i >> 1] >> (i & 1) * 4 & 15; }

static inline void deal_nibbles(const uint8_t* codes, int64_t first, int64_t channels, int64_t taps, const uint8_t* table,
                                uint8_t* out, int64_t plane) {
  for (int64_t t = 0; t < taps; ++t, ++first, out += plane) {
    for (int64_t c = 0; c < channels; ++c) out[c] = table[nibble(codes, first + taps * c)];
  }
}

}  // namespace fourbit
