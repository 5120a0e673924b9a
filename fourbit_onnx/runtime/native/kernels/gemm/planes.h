// How codes become bytes for the micro-kernel.
//
// The value of a code, less its zero point, is a sum over planes of  factor * (byte - shift):
//
//   unsigned side (a)   0..128; a shift makes negative values unsigned and is corrected exactly
//                       with the column sums of the other side
//   signed side (b)     -64..64, no shift
//
// A table within -64..64 takes one plane. A wider one (Log4) takes two: high = trunc(v / 64) and
// low = v - 64 * high. A zero point that cannot be a shift (on the signed side, or where padding
// must stay 0) takes one more plane: the byte 1 for every element, 0 for padding, factor -zero_point.
#pragma once

#include <cstdint>

namespace fourbit {

// The value of nibble 0..15.
using Values = int64_t[16];

constexpr int kMaxPlanes = 3;
constexpr int64_t kLargestValue = 4096;

struct Plane {
  uint8_t table[16];  // by nibble
  uint8_t padding;    // the byte that stands for the value 0 of a padded element
  int64_t factor;
  int64_t shift;
};

struct Planes {
  int count = 0;
  Plane plane[kMaxPlanes];
  int64_t largest = 0;  // max |value - zero_point|
};

// `padded`: the operand has padding, which is worth 0 (not -zero_point).
Planes unsigned_planes(const Values& values, int64_t zero_point, bool padded);
Planes signed_planes(const Values& values, int64_t zero_point);

}  // namespace fourbit
