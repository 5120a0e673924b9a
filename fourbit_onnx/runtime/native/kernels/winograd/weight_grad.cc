// The gradient to the weights: k runs over tiles.
//
// What one core has just written is slow to read for another. So where the sums are small, the tiles are dealt
// out and every part has sums of its own, added at the end; else (many channels, few tiles) all transform, then the
// sums are dealt out.
#include <algorithm>
#include <cstring>

#include "kernels/winograd/convolution.h"
#include "kernels/winograd/frames.h"
#include "kernels/winograd/tiles.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

constexpr int64_t kOwnSums = 3 << 19;    // bytes of a part's sums: not much more than the second-level cache
constexpr int64_t kThreadParts = 2, kMostParts = 32;  // parts of a thread, and of all: each has sums
constexpr int64_t kLeastPart = 512;      // tiles of a part: to add its sums must not cost more
constexpr int64_t kPartTiles = 128;      // transformed at once in a part
constexpr int64_t kChunkBytes = 4 << 20; // transformed at once by all: within the caches; or as much as the sums
constexpr int64_t kDepth = 128;          // steps at a time: a panel of 16 KiB stays in the first-level cache
constexpr int64_t kTileSize = kRows * kCols;
constexpr int64_t kBlockSize = kPoints * kTileSize;

class WeightGrad {
 public:
  WeightGrad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw, const Host& host)
      : g_(g), x_(x), dy_(dy), scale_(scale), dw_(dw), host_(host), k_(best_winograd()),
        tiles_{g.output[0], g.output[1]}, panels_(divide_up(g.channels, int64_t{kCols})),
        blocks_(divide_up(g.filters, int64_t{kRows})), channels_(panels_ * kCols), filters_(blocks_ * kRows),
        wide_(std::max(filters_, Frames::padded(g.filters, 2))), pairs_(divide_up(tiles_.per_line(), 2)),
        all_(g.batch * tiles_.lines()), most_(std::max<int64_t>(1, most_tiles(x, dy) / (2 * pairs_))) {}

  void run() {
    const int64_t parts = std::min({kThreadParts * host_.threads(), kMostParts, all_ * tiles_.per_line() / kLeastPart});
    if (parts >= 2 && blocks_ * panels_ * kBlockSize * 4 <= kOwnSums) return run_parts(parts);
    run_chunks();
  }

 private:
  // Each part at most `most_` lines, so that its sums fit; more lines take several rounds.
  void run_parts(int64_t parts) {
    const int64_t size = blocks_ * panels_ * kBlockSize, round = std::min(all_, parts * most_);
    const int64_t lines = std::clamp<int64_t>(kPartTiles / (2 * pairs_), 1, most_), steps = apart(lines);
    Buffer<int32_t> sums(parts * size);
    std::memset(sums.data(), 0, parts * size * sizeof(int32_t));  // of rows that are none
    Buffer<int64_t> totals(size);
    std::memset(totals.data(), 0, size * sizeof(int64_t));
    for (int64_t start = 0; start < all_; start += round) {
      const int64_t some = std::min(round, all_ - start), used = std::min(parts, some);
      host_.parallel(used, [&](int64_t part) {
        Buffer<int16_t> left(kPoints * steps * filters_ * 2), right(kPoints * steps * channels_ * 2);
        const int64_t begin = start + some * part / used, end = start + some * (part + 1) / used;
        for (int64_t first = begin; first < end; first += lines) {
          const int64_t count = std::min(lines, end - first);
          transform(first, count, left.data(), right.data(), steps);
          for (int64_t panel = 0; panel < panels_; ++panel) {
            multiply(panel, 0, blocks_, count * pairs_, steps, left.data(), right.data(), first > begin,
                     sums.data() + part * size + panel * blocks_ * kBlockSize);
          }
        }
      });
      parallel_ranges(host_, blocks_ * panels_, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          int64_t* total = totals.data() + i * kBlockSize;
          for (int64_t part = 0; part < used; ++part) add(sums.data() + part * size + i * kBlockSize, total);
          if (start + some == all_) finish(i % blocks_, i / blocks_, total, k_.taps64);
        }
      });
    }
  }

  static void add(const int32_t* sums, int64_t* totals) {
    for (int64_t i = 0; i < kBlockSize; ++i) totals[i] += sums[i];
  }

  void run_chunks() {
    const int64_t line_bytes = kPoints * pairs_ * 4 * (channels_ + filters_);
    const int64_t sum_bytes = blocks_ * panels_ * kBlockSize * 8;
    const int64_t fit = std::min(std::max(kChunkBytes, sum_bytes) / line_bytes, most_);
    const int64_t lines = std::clamp<int64_t>(fit, 1, all_), steps = apart(lines);
    Buffer<int16_t> left(kPoints * steps * filters_ * 2), right(kPoints * steps * channels_ * 2);
    const bool single = lines == all_;
    Buffer<int64_t> totals(single ? 0 : blocks_ * panels_ * kBlockSize);
    if (!single) std::memset(totals.data(), 0, sum_bytes);
    const int64_t band = tiles_.band();
    // Blocks of a task share a panel.
    const int64_t some = std::clamp<int64_t>(blocks_ * panels_ / 16, 1, std::min<int64_t>(blocks_, 4));
    const int64_t groups = divide_up(blocks_, some);
    for (int64_t first = 0; first < all_; first += lines) {
      const int64_t count = std::min(lines, all_ - first);
      parallel_ranges(host_, divide_up(count, band), [&](int64_t begin, int64_t end) {
        begin *= band, end = std::min(end * band, count);
        const int64_t at = begin * pairs_;
        transform(first + begin, end - begin, left.data() + at * filters_ * 2, right.data() + at * kCols * 2, steps);
      });
      parallel_ranges(host_, groups * panels_, [&](int64_t begin, int64_t end) {
        Buffer<int32_t> sums(some * kBlockSize);
        std::memset(sums.data(), 0, some * kBlockSize * sizeof(int32_t));  // of rows that are none
        for (int64_t task = begin; task < end; ++task) {
          const int64_t panel = task / groups, block = task % groups * some, size = std::min(some, blocks_ - block);
          multiply(panel, block, size, count * pairs_, steps, left.data(), right.data(), false, sums.data());
          for (int64_t i = 0; i < size; ++i) {
            int32_t* sum = sums.data() + i * kBlockSize;
            if (single) {
              finish(block + i, panel, sum, k_.taps32);
              continue;
            }
            int64_t* total = totals.data() + (panel * blocks_ + block + i) * kBlockSize;
            add(sum, total);
            if (first + count == all_) finish(block + i, panel, total, k_.taps64);
          }
        }
      });
    }
  }

  // Steps from one point or panel to the next: one more than there are, or in many widths all would lie a power of two
  // apart, in few sets of the cache.
  int64_t apart(int64_t lines) const { return lines * pairs_ + 1; }

  // left[point][pair of tiles][filter][2], right[point][panel of channels][pair of tiles][channel][2], `steps` pairs apart
  void transform(int64_t first, int64_t count, int16_t* left, int16_t* right, int64_t steps) const {
    const int64_t per_line = tiles_.per_line(), cols = 2 * per_line, filters = Frames::padded(g_.filters, 2);
    const int64_t most = std::min(count, tiles_.lines());
    const int64_t channels = Frames::padded(g_.channels, 1);
    const Frames xs(x_, g_.channels, g_.input[0], g_.input[1], 1, std::min(2 * most + 2, g_.input[0]) * g_.input[1]);
    const Frames gradients(dy_, g_.filters, g_.output[0], g_.output[1], 2,
                           std::min(2 * most, g_.output[0]) * g_.output[1]);
    Buffer<int8_t> x_frame((2 * most + 2) * (cols + 2) * channels), x_points(2 * kPoints * channels);
    Buffer<int16_t> dy_frame(2 * most * cols * filters);
    // Two tiles, transformed; what is beyond the true filters, and the tile beyond an odd line, stays 0.
    Buffer<int16_t> dy_points(2 * kPoints * wide_);
    std::memset(x_points.data(), 0, 2 * kPoints * channels);
    std::memset(dy_points.data(), 0, 2 * kPoints * wide_ * sizeof(int16_t));
    int64_t step = 0;
    tiles_.for_images(first, first + count, [&](int64_t image, int64_t line, int64_t lines) {
      xs.read(image, 2 * line - g_.pads[0], -g_.pads[1], 2 * lines + 2, cols + 2, x_frame.data());
      gradients.read(image, 2 * line, 0, 2 * lines, cols, dy_frame.data());
      for (int64_t i = 0; i < lines; ++i) {
        for (int64_t pair = 0; pair < pairs_; ++pair, ++step) {
          for (int64_t odd = 0; odd < 2; ++odd) {
            const int64_t j = 2 * pair + odd;
            int16_t* dy_half = dy_points.data() + odd * wide_;
            if (j < per_line) {
              k_.signed8(x_frame.data() + (2 * i * (cols + 2) + 2 * j) * channels, (cols + 2) * channels, channels,
                         x_points.data() + odd * channels, 2 * channels);
              k_.gradient16(dy_frame.data() + (2 * i * cols + 2 * j) * filters, cols * filters, filters, dy_half,
                            2 * wide_);
            } else {
              for (int p = 0; p < kPoints; ++p) std::memset(dy_half + p * 2 * wide_, 0, wide_ * sizeof(int16_t));
            }
          }
          spread(step, steps, x_points.data(), channels, dy_points.data(), left, right);
        }
      }
    });
  }

  void spread(int64_t step, int64_t steps, const int8_t* x, int64_t channels, const int16_t* dy, int16_t* left,
              int16_t* right) const {
    k_.pair16(dy, dy + wide_, 2 * wide_, filters_, left + step * filters_ * 2, steps * filters_ * 2);
    k_.pair8(x, x + channels, 2 * channels, panels_, right + step * kCols * 2, steps * kCols * 2,
             panels_ * steps * kCols * 2);
  }

  // sums[block][point][row][column] of `count` blocks from `block` on, added to what is there or not. The dot products take
  // four rows at a time; rows beyond these are left as they are.
  void multiply(int64_t panel, int64_t block, int64_t count, int64_t used, int64_t steps, const int16_t* left,
                const int16_t* right, bool add, int32_t* sums) const {
    static constexpr int32_t kNothing[kCols] = {};
    for (int p = 0; p < kPoints; ++p) {
      for (int64_t k = 0; k < used; k += kDepth) {
        const bool begun = add || k > 0;
        const int16_t* b = right + ((p * panels_ + panel) * steps + k) * kCols * 2;
        for (int64_t i = 0; i < count; ++i) {
          const int16_t* a = left + ((p * steps + k) * filters_ + (block + i) * kRows) * 2;
          int32_t* c = sums + i * kBlockSize + p * kTileSize;
          k_.dot16(reinterpret_cast<const uint8_t*>(a), 4, filters_ * 4, reinterpret_cast<const uint8_t*>(b),
                   std::min(kDepth, used - k), begun ? c : kNothing, begun ? kCols : 0, c, kCols, rows(block + i));
        }
      }
    }
  }

  int64_t rows(int64_t block) const {
    return divide_up(std::min<int64_t>(kRows, g_.filters - block * kRows), 4) * 4;
  }

  template <typename Sum, typename Taps>
  void finish(int64_t block, int64_t panel, const Sum* sums, Taps taps) const {
    const int64_t channels = std::min<int64_t>(kCols, g_.channels - panel * kCols);
    for (int64_t i = 0; i < kRows && block * kRows + i < g_.filters; ++i) {
      float* to = dw_ + ((block * kRows + i) * g_.channels + panel * kCols) * 9;
      taps(sums + i * kCols, kTileSize, channels, scale_, to);
    }
  }

  const ConvGeometry& g_;
  const Operand &x_, &dy_;
  const float scale_;
  float* const dw_;
  const Host& host_;
  const WinogradKernels& k_;
  const Tiles tiles_;
  const int64_t panels_, blocks_;
  const int64_t channels_, filters_;  // filled up to whole panels and blocks
  const int64_t wide_;                // filters of a transformed tile, which whole vectors are written to
  const int64_t pairs_;               // of tiles of a line, which is filled up with a tile of zeros
  const int64_t all_, most_;          // lines: of the batch; whose sums fit 32 bits
};

}  // namespace

void winograd_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                          const Host& host) {
  WeightGrad(g, x, dy, scale, dw, host).run();
}

}  // namespace fourbit
