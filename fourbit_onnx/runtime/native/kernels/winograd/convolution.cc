// Forward, and the gradient to the input, which is a convolution of dy with the weights turned round.
#include "kernels/winograd/convolution.h"

#include <algorithm>

#include "kernels/winograd/frames.h"
#include "kernels/winograd/panels.h"
#include "kernels/winograd/tiles.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

// What one core has just written is slow to read for another. So where the inputs are larger than the weights, a task
// transforms some inputs and has all products with them; else it transforms a panel of weights.
constexpr int64_t kTaskBytes = 512 << 10;  // of transformed inputs, and
constexpr int64_t kTaskTiles = 128;        // whose sums are 256 KiB: both stay in the second-level cache
constexpr int64_t kLeastTiles = 48;
constexpr int64_t kRunTiles = 8;           // of one line, written together

// y[n][f] = sum over c of x[n][c] * weights[f][c], of T values
struct Problem {
  const Operand& x;
  int64_t batch, channels, height, width;
  int64_t filters;
  Tiles tiles;
  int64_t top, left;  // padding
  float scale;
  float* y;
};

template <typename T>
class Convolution {
 public:
  Convolution(const Problem& p, const Panels& panels, const Host& host)
      : p_(p), panels_(panels), host_(host), k_(best_winograd()), padded_(Frames::padded(p.channels, sizeof(T))),
        pixel_(padded_ * static_cast<int64_t>(sizeof(T))), per_line_(p.tiles.per_line()),
        all_(p.batch * p.tiles.lines()) {}

  void run() {
    if (kPoints * all_ * per_line_ * pixel_ < panels_.count() * panels_.bytes()) return run_panels();
    const int64_t panels = panels_.count();
    Buffer<uint8_t> weights(panels * panels_.bytes());
    Buffer<int32_t> starts(panels * kPoints * kCols);
    parallel_ranges(host_, panels, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        panels_.make(i, weights.data() + i * panels_.bytes(), starts.data() + i * kPoints * kCols);
      }
    });
    const int64_t most = std::min(kTaskTiles, std::max(kLeastTiles, kTaskBytes / (kPoints * pixel_)));
    const int64_t lines = std::max<int64_t>(1, most / per_line_), tiles = lines * per_line_;
    parallel_ranges(host_, divide_up(all_, lines), [&](int64_t begin, int64_t end) {
      const int64_t plane = tiles * pixel_ + kApart;
      Buffer<uint8_t> points(kPoints * plane + 3 * pixel_);
      Buffer<int32_t> sums(kPoints * sums_plane(tiles));
      for (int64_t first = begin * lines; first < std::min(end * lines, all_); first += lines) {
        const int64_t count = std::min(lines, all_ - first);
        transform(first, count, points.data(), plane);
        for (int64_t i = 0; i < panels; ++i) {
          multiply(first * per_line_, count * per_line_, i, weights.data() + i * panels_.bytes(),
                   starts.data() + i * kPoints * kCols, points.data(), plane, sums.data());
        }
      }
      k_.settle();
    });
  }

 private:
  // Points lie a little more than a power of two apart: or all sixteen would want the same lines of the cache.
  static constexpr int64_t kApart = kVectorBytes;

  // Elements between points of sums.
  static int64_t sums_plane(int64_t tiles) { return (divide_up(tiles, 4) * 4 + 1) * kCols; }

  void run_panels() {
    const int64_t tiles = all_ * per_line_, plane = tiles * pixel_ + kApart, some = std::min(tiles, kTaskTiles);
    Buffer<uint8_t> points(kPoints * plane + 3 * pixel_);
    const int64_t band = p_.tiles.band();
    parallel_ranges(host_, divide_up(all_, band), [&](int64_t begin, int64_t end) {
      begin *= band, end = std::min(end * band, all_);
      transform(begin, end - begin, points.data() + begin * per_line_ * pixel_, plane);
    });
    parallel_ranges(host_, panels_.count(), [&](int64_t begin, int64_t end) {
      Buffer<uint8_t> weights(panels_.bytes());
      Buffer<int32_t> starts(kPoints * kCols), sums(kPoints * sums_plane(some));
      for (int64_t i = begin; i < end; ++i) {
        panels_.make(i, weights.data(), starts.data());
        for (int64_t first = 0; first < tiles; first += some) {
          multiply(first, std::min(some, tiles - first), i, weights.data(), starts.data(),
                   points.data() + first * pixel_, plane, sums.data());
        }
      }
      k_.settle();
    });
  }

  // points[point][tile][channel]
  void transform(int64_t first, int64_t count, uint8_t* points, int64_t plane) const {
    const int64_t cols = 2 * per_line_ + 2, rows = std::min(count, p_.tiles.lines());
    const Frames frames(p_.x, p_.channels, p_.height, p_.width, sizeof(T),
                        std::min(2 * rows + 2, p_.height) * p_.width);
    Buffer<uint8_t> frame((2 * rows + 2) * cols * pixel_);
    p_.tiles.for_images(first, first + count, [&](int64_t image, int64_t line, int64_t lines) {
      frames.read(image, 2 * line - p_.top, -p_.left, 2 * lines + 2, cols, frame.data());
      for (int64_t i = 0; i < lines; ++i) {
        for (int64_t j = 0; j < per_line_; ++j, points += pixel_) {
          point(frame.data() + (2 * i * cols + 2 * j) * pixel_, cols * padded_, points, plane);
        }
      }
    });
  }

  void point(const uint8_t* tile, int64_t row, uint8_t* out, int64_t plane) const {
    if constexpr (sizeof(T) == 1) {
      k_.input8(reinterpret_cast<const int8_t*>(tile), row, padded_, out, plane);
    } else {
      k_.input16(reinterpret_cast<const int16_t*>(tile), row, padded_, reinterpret_cast<int16_t*>(out), plane / 2);
    }
  }

  // Tiles first.. of all, which lie at `points`, times a panel. The dot products take four rows at a time: the last
  // may reach beyond the tiles.
  void multiply(int64_t first, int64_t tiles, int64_t panel, const uint8_t* weights, const int32_t* starts,
                const uint8_t* points, int64_t plane, int32_t* sums) const {
    const auto dot = sizeof(T) == 1 ? k_.dot8 : k_.dot16;
    const int64_t size = sums_plane(tiles);
    for (int p = 0; p < kPoints; ++p) {
      for (int64_t i = 0; i < tiles; i += kRows) {
        dot(points + p * plane + i * pixel_, pixel_, 4, weights + p * panels_.point_bytes(), panels_.steps(),
            starts + p * kCols, 0, sums + p * size + i * kCols, kCols,
            divide_up(std::min<int64_t>(kRows, tiles - i), 4) * 4);
      }
    }
    store(first, tiles, panel, sums, size);
  }

  void store(int64_t first, int64_t count, int64_t panel, const int32_t* sums, int64_t plane) const {
    const Tiles& t = p_.tiles;
    const int64_t channel = t.height * t.width;
    const int64_t filters = std::min<int64_t>(kCols, p_.filters - panel * kCols);
    for (int64_t i = 0; i < count;) {
      const int64_t line = (first + i) / per_line_, col = (first + i) % per_line_;
      const int64_t run = std::min({count - i, per_line_ - col, kRunTiles});
      const int64_t image = line / t.lines(), row = 2 * (line % t.lines());
      float* y = p_.y + (image * p_.filters + panel * kCols) * channel + row * t.width + 2 * col;
      k_.output(sums + i * kCols, plane, run, filters, std::min(2 * run, t.width - 2 * col),
                std::min<int64_t>(2, t.height - row), p_.scale, y, channel, t.width);
      i += run;
    }
  }

  const Problem& p_;
  const Panels& panels_;
  const Host& host_;
  const WinogradKernels& k_;
  const int64_t padded_, pixel_;  // channels of a pixel, and its bytes
  const int64_t per_line_, all_;  // tiles of a line, and lines of the batch
};

}  // namespace

void winograd_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y,
                   const Host& host) {
  const Panels panels(w, g.filters, g.channels, Panels::Use::forward);
  const Problem p{x, g.batch, g.channels, g.input[0], g.input[1], g.filters, {g.output[0], g.output[1]},
                  g.pads[0], g.pads[1], scale, y};
  Convolution<int8_t>(p, panels, host).run();
}

void winograd_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                         const Host& host) {
  const Panels panels(w, g.filters, g.channels, Panels::Use::backward);
  const Problem p{dy, g.batch, g.filters, g.output[0], g.output[1], g.channels, {g.input[0], g.input[1]},
                  2 - g.pads[0], 2 - g.pads[1], scale, dx};
  Convolution<int16_t>(p, panels, host).run();
}

}  // namespace fourbit
