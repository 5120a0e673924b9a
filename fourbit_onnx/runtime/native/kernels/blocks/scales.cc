#include "kernels/blocks/scales.h"

#include <algorithm>
#include <cmath>

namespace fourbit {
namespace {

constexpr float kTop = 448 * 512;  // of E4M3, in units of 2^-9

}  // namespace

float nvfp4_outer(float m) { return m == 0 ? 1.0f : std::max(m / 2688.0f, 1e-30f); }

int32_t nvfp4_block(float b, float outer, bool up) {
  const float units = b / 6.0f / outer / 0x1p-9f;
  int exponent;
  std::frexp(units, &exponent);  // units < 2^exponent: from 16 on, four significant bits
  const float spacing = std::ldexp(1.0f, std::min(std::max(exponent - 4, 0), 14));
  const float rounded = up ? std::ceil(units / spacing) : std::rint(units / spacing);
  return static_cast<int32_t>(std::min(std::max(rounded * spacing, 1.0f), kTop));
}

float mxfp4_top(float m) {
  if (m == 0) return 1;
  for (int e = -81; e < 126; ++e) {
    const float power = std::ldexp(1.0f, e);
    if (m <= 6 * power) return power;
  }
  return 0x1p126f;
}

int32_t mxfp4_block(float b, float top) {
  if (b == 0) return 1;
  int b_exponent, least;
  const float fraction = std::frexp(b, &b_exponent);
  const float limit = std::frexp(6 * (top * 0x1p-18f), &least);  // of the scale 1; doubled until b fits
  return 1 << std::min(std::max(b_exponent - least + (fraction > limit), 0), 18);
}

float block16_step(float m) { return m == 0 ? 1.0f : std::max(m / 7.0f, 1e-30f); }

int32_t block16_block(float b, float m) {
  const float share = b / (m == 0 ? 1.0f : m);
  return static_cast<int32_t>(std::max(std::ceil(share * 0x1p18f), 1.0f));
}

}  // namespace fourbit
