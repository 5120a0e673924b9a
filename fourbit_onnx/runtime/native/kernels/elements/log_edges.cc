#include "kernels/elements/log_edges.h"

#include <algorithm>
#include <cstring>

#include "kernels/elements/elements.h"

namespace fourbit {
namespace {

constexpr uint32_t kInfinity = kLargestFinite + 1;

float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

uint32_t first_above(float scale, float threshold) {
  uint32_t low = 0, high = kInfinity;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (float_of(middle) / scale > threshold) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

LogEdges::LogEdges(float scale, float threshold, int octaves) : shift_(22 + octaves) {
  for (uint32_t k = 0; k < 7; ++k) {
    edges_[k] = first_above(scale, threshold);
    even_ = even_ && edges_[k] == std::min(edges_[0] + (k << shift_), kInfinity);
    threshold *= static_cast<float>(1 << octaves);
  }
}

uint32_t LogEdges::quantize(const float* x, int64_t n, uint8_t* codes) const {
  uint32_t most = 0;
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7fffffff;
    most = std::max(most, bits);
    int e = 0;
    for (const uint32_t edge : edges_) e += bits >= edge;
    const uint8_t code = static_cast<uint8_t>(e + (x[i] < 0 && e > 0 ? 8 : 0));
    codes[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? code : codes[i / 2] | code << 4);
  }
  return most;
}

}  // namespace fourbit
