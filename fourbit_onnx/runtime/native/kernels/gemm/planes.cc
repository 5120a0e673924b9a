#include "kernels/gemm/planes.h"

#include <algorithm>
#include <cstdlib>

namespace fourbit {
namespace {

constexpr int64_t kNarrow = 64;

enum class Part { whole, low, high };

Plane make(const Values& values, Part part, int64_t shift) {
  Plane plane{};
  for (int code = 0; code < 16; ++code) {
    const int64_t high = values[code] / 64;  // C++ truncates
    const int64_t value = part == Part::whole ? values[code] : part == Part::high ? high : values[code] - 64 * high;
    plane.table[code] = static_cast<uint8_t>(value + shift);
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

Planes split(const Values& values, int64_t zero_point, bool is_unsigned) {
  Planes planes;
  const auto [low, high] = std::minmax_element(values, values + 16);
  if (-kNarrow <= *low && *high <= kNarrow) {
    planes.plane[planes.count++] = make(values, Part::whole, is_unsigned ? std::max<int64_t>(0, -*low) : 0);
  } else {
    const int64_t shift = is_unsigned ? kNarrow : 0;
    planes.plane[planes.count++] = make(values, Part::low, shift);
    planes.plane[planes.count++] = make(values, Part::high, shift);
  }
  planes.largest = std::max(std::abs(*low - zero_point), std::abs(*high - zero_point));
  return planes;
}

}  // namespace

Planes unsigned_planes(const Values& values, int64_t zero_point, bool padded) {
  Planes planes = split(values, zero_point, true);
  if (zero_point == 0) return planes;
  if (padded) {
    planes.plane[planes.count++] = presence(-zero_point);
  } else {
    planes.plane[0].shift += zero_point;  // its factor is 1
  }
  return planes;
}

Planes signed_planes(const Values& values, int64_t zero_point) {
  Planes planes = split(values, zero_point, false);
  if (zero_point != 0) planes.plane[planes.count++] = presence(-zero_point);
  return planes;
}

}  // namespace fourbit
