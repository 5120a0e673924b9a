#include <algorithm>

#include "kernels/winograd/convolution.h"

namespace fourbit {
namespace {

// Fewer channels, and transforming costs more than it saves: measured, see docs/kernels.md.
constexpr int64_t kLeastChannels = 32;

constexpr int64_t kLargestInput8 = 16;      // a transformed input is a sum of four: within -64..64
constexpr int64_t kLargestInput16 = 8191;   // within 16 bits
constexpr int64_t kLargestWeight = 14;      // 4 G g G' is at most 9 times as large: within 8 bits
constexpr int64_t kLargestSum = (int64_t{1} << 31) / 4 - 1;  // of the product; four times that must fit 32 bits

bool shape_suits(const ConvGeometry& g) {
  const auto all = [](const Dims& dims, int64_t value) {
    return std::all_of(dims.begin(), dims.end(), [=](int64_t d) { return d == value; });
  };
  return g.kernel.size() == 2 && g.groups == 1 && all(g.kernel, 3) && all(g.strides, 1) && all(g.dilations, 1) &&
         *std::max_element(g.pads.begin(), g.pads.end()) <= 2 && g.channels >= kLeastChannels &&
         g.filters >= kLeastChannels && g.batch * product(g.output) > 0 && product(g.input) > 0;
}

}  // namespace

bool winograd_suits(const ConvGeometry& g, const Operand& x, const Operand& w) {
  return shape_suits(g) && largest(x) <= kLargestInput8 && largest(w) <= kLargestWeight &&
         9 * g.channels * largest(x) * largest(w) <= kLargestSum;
}

bool winograd_suits_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w) {
  return shape_suits(g) && largest(dy) <= kLargestInput16 && largest(w) <= kLargestWeight &&
         9 * g.filters * largest(dy) * largest(w) <= kLargestSum;
}

int64_t most_tiles(const Operand& x, const Operand& dy) {
  return ((int64_t{1} << 31) - 1) / (16 * std::max<int64_t>(1, largest(x) * largest(dy)));
}

bool winograd_suits_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy) {
  return shape_suits(g) && largest(x) <= kLargestInput8 && largest(dy) <= kLargestInput16 &&
         divide_up(g.output[1], 4) * 2 <= most_tiles(x, dy);
}

}  // namespace fourbit
