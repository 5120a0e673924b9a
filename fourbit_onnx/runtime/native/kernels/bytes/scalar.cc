// The reference. Read this one to know what the others do.
#include "kernels/bytes/bytes.h"

namespace fourbit {

void unpack_scalar(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table,
                   uint8_t* bytes) {
  for (int64_t i = 0; i < count; ++i) bytes[i] = table[nibble(codes, first + i)];
}

void unpack_add_scalar(const uint8_t* codes, int64_t first, int64_t count, const uint8_t* table,
                       uint8_t* bytes) {
  for (int64_t i = 0; i < count; ++i) bytes[i] = static_cast<uint8_t>(bytes[i] + table[nibble(codes, first + i)]);
}

void interleave_scalar(const uint8_t* const* rows, int64_t count, uint8_t* quads) {
  for (int64_t i = 0; i < count; ++i) {
    for (int j = 0; j < 4; ++j) quads[4 * i + j] = rows[j][i];
  }
}

void turn_scalar(const uint8_t* lines, int64_t line, int64_t count, uint8_t* out, int64_t pixel) {
  for (int64_t i = 0; i < count; ++i) {
    for (int j = 0; j < 16; ++j) __builtin_memcpy(out + i * pixel + 4 * j, lines + j * line + 4 * i, 4);
  }
}

void deal_taps_scalar(const uint8_t* codes, int64_t first, int64_t channels, int64_t taps, const uint8_t* table,
                      uint8_t* out, int64_t plane) {
  deal_nibbles(codes, first, channels, taps, table, out, plane);
}

}  // namespace fourbit
