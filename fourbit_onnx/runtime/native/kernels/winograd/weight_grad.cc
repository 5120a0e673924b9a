// The gradient to the weights: k runs over tiles, chunk by chunk.
#include <algorithm>
#include <cstring>

#include "kernels/winograd/convolution.h"
#include "kernels/winograd/frames.h"
#include "kernels/winograd/tiles.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

constexpr int64_t kChunkBytes = 4 << 20;  // of both operands, transformed: within the caches; or as much as their sums
constexpr int64_t kDepth = 128;           // steps at a time: a panel of 16 KiB stays in the first-level cache

class WeightGrad {
 public:
  WeightGrad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw, const Host& host)
      : g_(g), x_(x), dy_(dy), scale_(scale), dw_(dw), host_(host), k_(best_winograd()),
        tiles_{g.output[0], g.output[1]}, channels_(divide_up(g.channels, int64_t{kCols}) * kCols),
        filters_(divide_up(g.filters, int64_t{kRows}) * kRows),
        wide_(std::max(filters_, Frames::padded(g.filters, 2))) {}

  void run() {
    const int64_t per_line = tiles_.per_line(), all = g_.batch * tiles_.lines();
    // A line of tiles is filled up to whole pairs, with zeros.
    pairs_ = divide_up(per_line, 2);
    const int64_t line_bytes = kPoints * pairs_ * 4 * (channels_ + filters_);
    const int64_t sum_bytes = kPoints * channels_ * filters_ * 8;
    const int64_t fit = std::min(std::max(kChunkBytes, sum_bytes) / line_bytes, most_tiles(x_, dy_) / (2 * pairs_));
    const int64_t lines = std::clamp<int64_t>(fit, 1, all);
    const int64_t panels = channels_ / kCols, blocks = filters_ / kRows;
    steps_ = lines * pairs_;
    const bool chunked = lines < all;
    Buffer<uint8_t> left(host_, kPoints * steps_ * filters_ * 4), right(host_, kPoints * steps_ * channels_ * 4);
    Buffer<int64_t> sums(host_, chunked ? blocks * panels * kPoints * kTileSize : 0);
    if (chunked) std::memset(sums.data(), 0, blocks * panels * kPoints * kTileSize * sizeof(int64_t));
    for (int64_t first = 0; first < all; first += lines) {
      const int64_t count = std::min(lines, all - first);
      transform(first, count, left.data(), right.data());
      multiply(count * pairs_, left.data(), right.data(), chunked ? sums.data() : nullptr, first + count == all);
    }
  }

 private:
  static constexpr int64_t kTileSize = kRows * kCols;

  // left[point][pair of tiles][filter][2], right[point][panel of channels][pair of tiles][channel][2]
  void transform(int64_t first, int64_t count, uint8_t* left, uint8_t* right) {
    const int64_t per_line = tiles_.per_line();
    const int64_t channels = channels_, filters = Frames::padded(g_.filters, 2);
    static_assert(kVectorBytes == kCols * 2, "a frame has as many channels as whole panels");
    const int64_t band = tiles_.band();
    parallel_ranges(host_, divide_up(count, band), [&](int64_t begin, int64_t end) {
      begin *= band, end = std::min(end * band, count);
      const int64_t most = std::min(end - begin, tiles_.lines()), cols = 2 * per_line;
      const Frames xs(x_, g_.channels, g_.input[0], g_.input[1], 2, std::min(2 * most + 2, g_.input[0]) * g_.input[1],
                      host_);
      const Frames gradients(dy_, g_.filters, g_.output[0], g_.output[1], 2,
                             std::min(2 * most, g_.output[0]) * g_.output[1], host_);
      Buffer<int16_t> x_frame(host_, (2 * most + 2) * (cols + 2) * channels);
      Buffer<int16_t> dy_frame(host_, 2 * most * cols * filters);
      // Two tiles, transformed; what is beyond the true channels stays 0.
      Buffer<int16_t> x_points(host_, 2 * kPoints * channels_), dy_points(host_, 2 * kPoints * wide_);
      std::memset(x_points.data(), 0, 2 * kPoints * channels_ * sizeof(int16_t));
      std::memset(dy_points.data(), 0, 2 * kPoints * wide_ * sizeof(int16_t));
      int64_t step = begin * pairs_;
      tiles_.for_images(first + begin, first + end, [&](int64_t image, int64_t line, int64_t lines) {
        xs.read(image, 2 * line - g_.pads[0], -g_.pads[1], 2 * lines + 2, cols + 2, x_frame.data());
        gradients.read(image, 2 * line, 0, 2 * lines, cols, dy_frame.data());
        for (int64_t i = 0; i < lines; ++i) {
          for (int64_t pair = 0; pair < pairs_; ++pair, ++step) {
            for (int64_t odd = 0; odd < 2; ++odd) {
              const int64_t j = 2 * pair + odd;
              int16_t *x_half = x_points.data() + odd * channels_, *dy_half = dy_points.data() + odd * wide_;
              if (j < per_line) {
                k_.input16(x_frame.data() + (2 * i * (cols + 2) + 2 * j) * channels, (cols + 2) * channels, channels,
                           x_half, 2 * channels_);
                k_.gradient16(dy_frame.data() + (2 * i * cols + 2 * j) * filters, cols * filters, filters, dy_half,
                              2 * wide_);
              } else {
                for (int p = 0; p < kPoints; ++p) {
                  std::memset(dy_half + p * 2 * wide_, 0, wide_ * sizeof(int16_t));
                }
              }
            }
            spread(step, x_points.data(), dy_points.data(), left, right);
          }
        }
      });
    });
  }

  void spread(int64_t step, const int16_t* x, const int16_t* dy, uint8_t* left, uint8_t* right) {
    for (int p = 0; p < kPoints; ++p, x += 2 * channels_, dy += 2 * wide_) {
      k_.pair16(dy, dy + wide_, filters_, reinterpret_cast<int16_t*>(left + (p * steps_ + step) * filters_ * 4));
      for (int64_t c = 0; c < channels_; c += kCols) {
        uint8_t* to = right + ((p * (channels_ / kCols) + c / kCols) * steps_ + step) * kCols * 4;
        k_.pair16(x + c, x + channels_ + c, kCols, reinterpret_cast<int16_t*>(to));
      }
    }
  }

  void multiply(int64_t steps, const uint8_t* left, const uint8_t* right, int64_t* sums, bool last) {
    const int64_t panels = channels_ / kCols, blocks = filters_ / kRows;
    const int64_t some = std::clamp<int64_t>(blocks * panels / 16, 1, std::min<int64_t>(blocks, 4));
    const int64_t groups = divide_up(blocks, some);
    parallel_ranges(host_, groups * panels, [&](int64_t begin, int64_t end) {
      Buffer<int32_t> tile(host_, some * kPoints * kTileSize);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t panel = task / groups, block0 = task % groups * some;
        const int64_t count = std::min(some, blocks - block0);
        for (int p = 0; p < kPoints; ++p) {
          for (int64_t k = 0; k < steps; k += kDepth) {
            const uint8_t* b = right + ((p * panels + panel) * steps_ + k) * kCols * 4;
            for (int64_t i = 0; i < count; ++i) {
              static constexpr int32_t kNothing[kCols] = {};
              const uint8_t* a = left + ((p * steps_ + k) * filters_ + (block0 + i) * kRows) * 4;
              int32_t* c = tile.data() + (i * kPoints + p) * kTileSize;
              k_.dot16(a, 4, filters_ * 4, b, std::min(kDepth, steps - k), k == 0 ? kNothing : c, k == 0 ? 0 : kCols,
                       c, kCols, kRows);
            }
          }
        }
        for (int64_t i = 0; i < count; ++i) {
          const int64_t block = block0 + i;
          finish(block, panel, tile.data() + i * kPoints * kTileSize,
                 sums == nullptr ? nullptr : sums + (block * panels + panel) * kPoints * kTileSize, last);
        }
      }
    });
  }

  void finish(int64_t block, int64_t panel, const int32_t* tile, int64_t* sums, bool last) {
    if (sums != nullptr) {
      for (int64_t i = 0; i < kPoints * kTileSize; ++i) sums[i] += tile[i];
      if (!last) return;
    }
    const int64_t channels = std::min<int64_t>(kCols, g_.channels - panel * kCols);
    for (int64_t i = 0; i < kRows && block * kRows + i < g_.filters; ++i) {
      float* to = dw_ + ((block * kRows + i) * g_.channels + panel * kCols) * 9;
      if (sums != nullptr) {
        k_.taps64(sums + i * kCols, kTileSize, channels, scale_, to);
      } else {
        k_.taps32(tile + i * kCols, kTileSize, channels, scale_, to);
      }
    }
  }

  const ConvGeometry& g_;
  const Operand &x_, &dy_;
  const float scale_;
  float* const dw_;
  const Host& host_;
  const WinogradKernels& k_;
  const Tiles tiles_;
  const int64_t channels_, filters_;  // filled up to whole panels
  const int64_t wide_;                // filters of a transformed tile, which whole vectors are written to
  int64_t pairs_ = 0, steps_ = 0;
};

}  // namespace

void winograd_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                          const Host& host) {
  WeightGrad(g, x, dy, scale, dw, host).run();
}

}  // namespace fourbit
