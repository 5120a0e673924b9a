#include "kernels/gemm/planes.h"

#include <algorithm>
#include <cstdlib>

namespace fourbit {
namespace {

constexpr int64_t kNarrow = 64;

enum class Part { whole, low, high };

// The part of a value: value = low + 64 * high.
int64_t part_of(int64_t value, Part part) {
  const int64_t high = value / 64;  // C++ truncates
  return part == Part::whole ? value : part == Part::high ? high : value - 64 * high;
}

Plane make(const Operand& x, Part part, int64_t shift) {
  Plane plane{};
  for (int code = 0; code < 16; ++code) {
    plane.table[code] = static_cast<uint8_t>(part_of(x.values[code], part) + shift);
    if (x.other_values != nullptr) plane.others[code] = static_cast<uint8_t>(part_of((*x.other_values)[code], part));
  }
  plane.padding = static_cast<uint8_t>(shift);
  plane.factor = part == Part::high ? 64 : 1;
  plane.shift = shift;
  return plane;
}

Plane presence(int64_t factor) {
  Plane plane{};
  std::fill(plane.table, plane.table + 16, uint8_t{1});
  plane.factor = factor;
  return plane;
}

struct Range {
  int64_t low, high;
};

// Of the values before the zero point; of two phases, no smaller than it is.
Range range(const Operand& x) {
  const auto [low, high] = std::minmax_element(x.values, x.values + 16);
  if (x.other_values == nullptr) return {*low, *high};
  const auto [other_low, other_high] = std::minmax_element(*x.other_values, *x.other_values + 16);
  return {*low + *other_low, *high + *other_high};
}

Planes split(const Operand& x, bool is_unsigned) {
  Planes planes;
  if (is_wide(x)) {
    const int64_t shift = is_unsigned ? kNarrow : 0;
    planes.plane[planes.count++] = make(x, Part::low, shift);
    planes.plane[planes.count++] = make(x, Part::high, shift);
  } else {
    planes.plane[planes.count++] = make(x, Part::whole, is_unsigned ? std::max<int64_t>(0, -range(x).low) : 0);
  }
  planes.largest = largest(x);
  return planes;
}

}  // namespace

Planes unsigned_planes(const Operand& x, bool padded) {
  Planes planes = split(x, true);
  if (x.zero_point == 0) return planes;
  if (padded) {
    planes.plane[planes.count++] = presence(-x.zero_point);
  } else {
    planes.plane[0].shift += x.zero_point;  // its factor is 1
  }
  return planes;
}

Planes signed_planes(const Operand& x) {
  Planes planes = split(x, false);
  if (x.zero_point != 0) planes.plane[planes.count++] = presence(-x.zero_point);
  return planes;
}

bool is_wide(const Operand& x) {
  const Range found = range(x);
  return found.low < -kNarrow || found.high > kNarrow;
}

int64_t largest(const Operand& x) {
  const Range found = range(x);
  return std::max(std::abs(found.low - x.zero_point), std::abs(found.high - x.zero_point));
}

}  // namespace fourbit
