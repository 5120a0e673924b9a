#include "kernels/elements/parallel.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/elements/elements.h"
#include "kernels/elements/log_edges.h"

namespace fourbit {
namespace {

constexpr int64_t kBlock = 16384;  // elements; a multiple of what shares a byte of codes or mask
constexpr int64_t kCached = 4096;  // elements that are read several times; divides kBlock

// Runs task(first, count) for each block and gives back the results, in order.
template <typename Result, typename Task>
std::vector<Result> blocks(int64_t n, const Host& host, const Task& task) {
  const int64_t count = divide_up(n, kBlock);
  std::vector<Result> results(count);
  const auto range = [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) results[b] = task(b * kBlock, std::min(kBlock, n - b * kBlock));
  };
  if (count <= 1) {
    range(0, count);  // not worth waking a thread
  } else {
    parallel_ranges(host, count, range);
  }
  return results;
}

float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

bool is_finite(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return (bits & 0x7fffffff) <= kLargestFinite;
}

int64_t first_bad(const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (!is_finite(x[i])) return i;
  }
  return -1;
}

int64_t bad_index(const float* x, int64_t n, const std::vector<uint32_t>& largest) {
  const bool bad = std::any_of(largest.begin(), largest.end(), [](uint32_t bits) { return bits > kLargestFinite; });
  return bad ? first_bad(x, n) : -1;
}

}  // namespace

float largest_magnitude(const float* x, int64_t n, int64_t* bad, const Host& host) {
  const ElementKernels& k = best_elements();
  const auto parts = blocks<uint32_t>(n, host, [&](int64_t at, int64_t count) { return k.largest(x + at, count); });
  *bad = bad_index(x, n, parts);
  return parts.empty() ? 0.0f : float_of(*std::max_element(parts.begin(), parts.end()));
}

void value_range(const float* x, int64_t n, float* low, float* high, int64_t* bad, const Host& host) {
  struct Range {
    int32_t low, high;
  };
  const ElementKernels& k = best_elements();
  const auto parts = blocks<Range>(n, host, [&](int64_t at, int64_t count) {
    Range part;
    k.range(x + at, count, &part.low, &part.high);
    return part;
  });
  *low = *high = 0;
  *bad = -1;
  if (parts.empty()) return;
  int32_t least = parts[0].low, most = parts[0].high;
  for (const Range& part : parts) {
    least = std::min(least, part.low);
    most = std::max(most, part.high);
  }
  const auto value = [](int32_t ordered) { return float_of(static_cast<uint32_t>(ordered ^ (ordered >> 31 & 0x7fffffff))); };
  *low = value(least);
  *high = value(most);
  if (!is_finite(*low) || !is_finite(*high)) *bad = first_bad(x, n);
}

void magnitude_moments(const float* x, int64_t n, float m, int64_t* sum, int64_t* squares, const Host& host) {
  struct Moments {
    int64_t sum = 0, squares = 0;
  };
  const ElementKernels& k = best_elements();
  const auto parts = blocks<Moments>(n, host, [&](int64_t at, int64_t count) {
    Moments part;
    k.moments(x + at, count, m, &part.sum, &part.squares);
    return part;
  });
  *sum = *squares = 0;
  for (const Moments& part : parts) {
    *sum += part.sum;
    *squares += part.squares;
  }
}

int64_t quantize_integer(const float* x, int64_t n, float scale, float zero_point, float low, float high,
                         uint8_t* codes, const Host& host) {
  const ElementKernels& k = best_elements();
  return bad_index(x, n, blocks<uint32_t>(n, host, [&](int64_t at, int64_t count) {
                     return k.quantize(x + at, count, scale, zero_point, low, high, codes + at / 2);
                   }));
}

int64_t quantize_clipped(const float* x, int64_t n, float scale, float low, float high, float below, float above,
                         uint8_t* codes, uint8_t* mask, uint8_t* up, const Host& host) {
  const ElementKernels& k = best_elements();
  const float largest = float_of(kLargestFinite);
  const float least = low == 0 ? -std::numeric_limits<float>::infinity() : -largest;
  const auto parts = blocks<uint32_t>(n, host, [&](int64_t at, int64_t count) {
    return k.quantize_clipped(x + at, count, scale, low, high, below, above, least,
                              codes != nullptr ? codes + at / 2 : nullptr, mask != nullptr ? mask + at / 8 : nullptr,
                              up != nullptr ? up + at / 8 : nullptr);
  });
  if (std::all_of(parts.begin(), parts.end(), [](uint32_t bad) { return bad == 0; })) return -1;
  return std::find_if(x, x + n, [&](float y) { return !(y >= least && y <= largest); }) - x;
}

int64_t quantize_log(const float* x, int64_t n, float scale, float threshold, int octaves, uint8_t* codes,
                     const Host& host) {
  const LogEdges edges(scale, threshold, octaves);
  const ElementKernels& k = best_elements();
  return bad_index(x, n, blocks<uint32_t>(n, host, [&](int64_t at, int64_t count) {
                     if (!edges.even()) return edges.quantize(x + at, count, codes + at / 2);
                     return k.quantize_log(x + at, count, edges.first(), edges.shift(), codes + at / 2);
                   }));
}

int64_t quantize_stochastic(const float* x, const float* u, int64_t n, float scale, const float* levels, bool sign_bit,
                            uint8_t* codes, const Host& host) {
  const ElementKernels& k = best_elements();
  return bad_index(x, n, blocks<uint32_t>(n, host, [&](int64_t at, int64_t count) {
                     return k.quantize_stochastic(x + at, u + at, count, scale, levels, sign_bit, codes + at / 2);
                   }));
}

void rectify(const float* x, const float* b, int64_t n, float* y, uint8_t* mask, const Host& host) {
  const ElementKernels& k = best_elements();
  blocks<char>(n, host, [&](int64_t at, int64_t count) {
    float* values = y != nullptr ? y + at : nullptr;
    uint8_t* bits = mask != nullptr ? mask + at / 8 : nullptr;
    if (b != nullptr) {
      k.rectify_sum(x + at, b + at, count, values, bits);
    } else {
      k.rectify(x + at, count, values, bits);
    }
    return '\0';
  });
}

void clip(const float* x, int64_t n, float low, float high, float* y, uint8_t* mask, const Host& host) {
  const ElementKernels& k = best_elements();
  blocks<char>(n, host, [&](int64_t at, int64_t count) {
    k.clip(x + at, count, low, high, y != nullptr ? y + at : nullptr, mask != nullptr ? mask + at / 8 : nullptr);
    return '\0';
  });
}

ClippedGradient clip_gradient(const float* dy, const uint8_t* codes, const uint8_t* mask, const uint8_t* up, int64_t n,
                              int top, int bottom, float* dx, const Host& host) {
  struct Block {
    uint32_t largest;
    int64_t clipped;
  };
  const ElementKernels& k = best_elements();
  // Of each block, at its place: mostly a few, and memory that nobody touches costs nothing.
  const Buffer<float> clipped(codes != nullptr ? n : 0);
  const auto parts = blocks<Block>(n, host, [&](int64_t at, int64_t count) {
    Block block{0, 0};
    for (const int64_t end = at + count, begin = at; at < end; at += kCached) {
      const int64_t some = std::min(kCached, end - at);
      block.largest = std::max(block.largest, k.largest(dy + at, some));
      if (codes != nullptr) {
        block.clipped += k.collect_clipped(dy + at, codes + at / 2, mask + at / 8, some, top, bottom,
                                           clipped.data() + begin + block.clipped);
      }
      if (dx != nullptr) k.apply_mask(dy + at, mask + at / 8, some, dx + at);
    }
    return block;
  });
  uint32_t largest = 0;
  for (const Block& block : parts) largest = std::max(largest, block.largest);
  ClippedGradient result{float_of(largest), largest > kLargestFinite ? first_bad(dy, n) : -1, 0, 0};
  if (result.bad >= 0 || largest == 0) return result;
  if (up != nullptr) {
    const auto sums = blocks<int64_t>(n, host, [&](int64_t at, int64_t count) {
      return k.sum_signed_units(dy + at, mask + at / 8, up + at / 8, count, result.m);
    });
    for (const int64_t sum : sums) result.rounded += sum;
  }
  if (codes == nullptr) return result;
  for (size_t i = 0; i < parts.size(); ++i) {
    result.sum += k.sum_units(clipped.data() + static_cast<int64_t>(i) * kBlock, parts[i].clipped, result.m);
  }
  return result;
}

void mask_sum(const float* a, const float* b, const uint8_t* mask, int64_t n, float* dx, const Host& host) {
  const ElementKernels& k = best_elements();
  blocks<char>(n, host, [&](int64_t at, int64_t count) {
    if (b != nullptr) {
      k.apply_mask_to_sum(a + at, b + at, mask + at / 8, count, dx + at);
    } else {
      k.apply_mask(a + at, mask + at / 8, count, dx + at);
    }
    return '\0';
  });
}

}  // namespace fourbit
