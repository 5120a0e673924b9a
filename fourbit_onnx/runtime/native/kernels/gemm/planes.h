// How codes become bytes for the micro-kernel.
//
// The value of a code, less its zero point, is a sum over planes of  factor * (byte - shift):
//
//   unsigned side (a)   0..128; a shift makes negative values unsigned and is corrected exactly
//                       with the column sums of the other side
//   signed side (b)     -64..64, no shift
//
// Codes of two phases have two tables, and the value is the sum of both: each is split by itself, and the bytes are added.
// Both must be such that no byte leaves -64..64.
//
// A table within -64..64 takes one plane. A wider one (Log4) takes two: high = trunc(v / 64) and
// low = v - 64 * high. A zero point that cannot be a shift (on the signed side, or where padding
// must stay 0) takes one more plane: the byte 1 for every element, 0 for padding, factor -zero_point.
#pragma once

#include <cstdint>

#include "kernels/bytes/bytes.h"

namespace fourbit {

// The value of nibble 0..15.
using Values = int64_t[16];

constexpr int kMaxPlanes = 3;
constexpr int64_t kLargestValue = 4096;

// Codes with their meaning: value = values[nibble] - zero_point, times a scale that the product of scales carries.
// Of two phases: plus other_values[nibble of the others].
struct Operand {
  const uint8_t* codes;
  const Values& values;
  int64_t zero_point;
  const uint8_t* others = nullptr;
  const Values* other_values = nullptr;
};

// max |value - zero_point| over all codes; of two phases, no less than it
int64_t largest(const Operand& x);

// Whether it takes two planes.
bool is_wide(const Operand& x);

struct Plane {
  uint8_t table[16];  // by nibble
  uint8_t others[16]; // of the codes of the other phase, to be added
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
Planes unsigned_planes(const Operand& x, bool padded);
Planes signed_planes(const Operand& x);

// bytes[i] of a plane, for code first + i of x, i < count
class UnpackPlane {
 public:
  UnpackPlane() : unpack_(best_unpack()), add_(best_unpack_add()) {}
  void operator()(const Operand& x, int64_t first, int64_t count, const Plane& plane, uint8_t* bytes) const {
    unpack_(x.codes, first, count, plane.table, bytes);
    if (x.others != nullptr) add_(x.others, first, count, plane.others, bytes);
  }

 private:
  Unpack unpack_;
  UnpackAdd add_;
};

}  // namespace fourbit
