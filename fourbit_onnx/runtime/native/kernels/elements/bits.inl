// Floats as bits; codes and masks packed from bytes, a block at a time, and read. A part of elements.inl: internal
// linkage, for the reason given there.
#pragma once

#include <cstdint>

namespace fourbit {
namespace {

constexpr int kBlock = 256;  // elements between bytes and packed codes

uint32_t bits_of(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

// Bytes 0..15 to codes, the first in the low nibble; an odd tail leaves the last high nibble 0.
void pack_block(uint8_t* bytes, int64_t n, uint8_t* codes) {
  if (n % 2 != 0) bytes[n] = 0;
  const int64_t pairs = (n + 1) / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    uint16_t pair;
    __builtin_memcpy(&pair, bytes + 2 * i, 2);  // little-endian: the first is low
    codes[i] = static_cast<uint8_t>(pair | pair >> 4);
  }
}

// Bytes 0 or 1 to bits, the first in the lowest bit; the bits of a tail are 0.
void pack_bits(uint8_t* bytes, int64_t n, uint8_t* mask) {
  for (int64_t i = n; i % 8 != 0; ++i) bytes[i] = 0;
  for (int64_t i = 0; i < n; i += 8) {
    // The product moves bit 0 of byte j to bit 56 + j, without carries.
    uint64_t eight;
    __builtin_memcpy(&eight, bytes + i, 8);
    mask[i / 8] = static_cast<uint8_t>(eight * 0x0102040810204080u >> 56);
  }
}

// The bits of x, or 0 where bit `at` is 0.
uint32_t kept(float x, uint32_t bits, int at) {
  return bits_of(x) & static_cast<uint32_t>(static_cast<int32_t>(bits << (31 - at)) >> 31);
}

uint32_t sixteen_bits(const uint8_t* mask) { return mask[0] | static_cast<uint32_t>(mask[1]) << 8; }

}  // namespace
}  // namespace fourbit
