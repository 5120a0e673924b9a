#include "kernels/elements/scales.h"

#include <algorithm>
#include <cmath>

namespace fourbit {
namespace {

float guard(float scale) { return std::max(scale, 1e-30f); }

}  // namespace

float sawb_scale(float m, int64_t sum, int64_t squares, int64_t n) {
  if (m == 0) return 1;
  const double e1 = static_cast<double>(sum) / static_cast<double>(n) * 0x1p-16;
  const double e2 = static_cast<double>(squares) / static_cast<double>(n) * 0x1p-32;
  double alpha = static_cast<double>(m) * (12.035 * std::sqrt(e2) - 12.03 * e1);
  if (alpha < static_cast<double>(m) / 16) alpha = m;
  return guard(static_cast<float>(alpha) / 7.0f);
}

float absmax_scale(float m) { return m == 0 ? 1.0f : guard(m / 7.0f); }

float underflow_scale(float m) { return m == 0 ? 1.0f : guard(m / 64.0f); }

float minmax_scale(float low, float high, int32_t* zero_point) {
  *zero_point = 0;
  if (low == high) return low == 0 ? 1.0f : guard(std::fabs(low));
  float scale = static_cast<float>((static_cast<double>(high) - static_cast<double>(low)) / 15.0);
  scale = guard(std::max(scale, std::max(std::fabs(low), std::fabs(high)) * 0x1p-16f));
  *zero_point = static_cast<int32_t>(std::rint(-8.0f - low / scale));
  return scale;
}

float gradient_top(float m, float threshold) {
  for (int e = -87; e < 127; ++e) {
    const float top = std::ldexp(1.0f, e);
    if (m <= threshold * top) return top;
  }
  return 0x1p127f;
}

float next_top(float m, float top, float threshold) {
  float next = top;
  if (m > threshold * top) {
    next = 2 * top;
  } else if (m != 0 && m <= threshold * top / 2) {
    next = top / 2;
  }
  return std::min(std::max(next, 0x1p-87f), 0x1p115f);
}

}  // namespace fourbit
