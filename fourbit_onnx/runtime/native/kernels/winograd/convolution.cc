// Forward, and the gradient to the input, which is a convolution of dy with the weights turned round.
#include "kernels/winograd/convolution.h"

#include <algorithm>

#include "kernels/winograd/frames.h"
#include "kernels/winograd/panels.h"
#include "kernels/winograd/tiles.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

constexpr int64_t kChunkBytes = 2 << 20;  // of transformed inputs, shared by the threads: within the caches
constexpr int64_t kBlock = 128;           // tiles of a task: its sums, 256 KiB, stay in the second-level cache
constexpr int64_t kRunTiles = 8;          // of one line, written together

// y[n][f] = sum over c of x[n][c] * panels[f][c], of T values
struct Problem {
  const Operand& x;
  int64_t batch, channels, height, width;
  int64_t filters;
  Tiles tiles;
  int64_t top, left;  // padding
  const uint8_t* panels;
  const int32_t* starts;  // nullptr: none
  float scale;
  float* y;
};

template <typename T>
class Convolution {
 public:
  Convolution(const Problem& p, const Host& host)
      : p_(p), host_(host), k_(best_winograd()), padded_(Frames::padded(p.channels, sizeof(T))),
        pixel_(padded_ * static_cast<int64_t>(sizeof(T))), shape_{p.filters, p.channels, sizeof(T)} {}

  void run() {
    const int64_t per_line = p_.tiles.per_line(), all = p_.batch * p_.tiles.lines();
    const int64_t lines = std::clamp<int64_t>(kChunkBytes / (kPoints * pixel_ * per_line), 1, all);
    // Blocks are read four rows at a time: the last may reach beyond its tiles.
    plane_ = lines * per_line * pixel_;
    Buffer<uint8_t> points(host_, kPoints * plane_ + 3 * pixel_);
    for (int64_t first = 0; first < all; first += lines) {
      const int64_t count = std::min(lines, all - first);
      transform(first, count, points.data());
      multiply(first * per_line, count * per_line, points.data());
    }
  }

 private:
  // points[point][tile][channel]
  void transform(int64_t first, int64_t count, uint8_t* points) {
    const int64_t per_line = p_.tiles.per_line(), cols = 2 * per_line + 2;
    const int64_t band = p_.tiles.band();
    parallel_ranges(host_, divide_up(count, band), [&](int64_t begin, int64_t end) {
      begin *= band, end = std::min(end * band, count);
      const int64_t most = std::min(end - begin, p_.tiles.lines());
      const Frames frames(p_.x, p_.channels, p_.height, p_.width, sizeof(T),
                          std::min(2 * most + 2, p_.height) * p_.width, host_);
      Buffer<uint8_t> frame(host_, (2 * most + 2) * cols * pixel_);
      uint8_t* out = points + begin * per_line * pixel_;
      p_.tiles.for_images(first + begin, first + end, [&](int64_t image, int64_t line, int64_t lines) {
        frames.read(image, 2 * line - p_.top, -p_.left, 2 * lines + 2, cols, frame.data());
        for (int64_t i = 0; i < lines; ++i) {
          for (int64_t j = 0; j < per_line; ++j, out += pixel_) {
            point(frame.data() + (2 * i * cols + 2 * j) * pixel_, cols * padded_, out);
          }
        }
      });
    });
  }

  void point(const uint8_t* tile, int64_t row, uint8_t* out) {
    if constexpr (sizeof(T) == 1) {
      k_.input8(reinterpret_cast<const int8_t*>(tile), row, padded_, out, plane_);
    } else {
      k_.input16(reinterpret_cast<const int16_t*>(tile), row, padded_, reinterpret_cast<int16_t*>(out), plane_ / 2);
    }
  }

  void multiply(int64_t first, int64_t count, const uint8_t* points) {
    const int64_t blocks = divide_up(count, kBlock), size = divide_up(divide_up(count, blocks), 4) * 4;
    const int64_t panels = shape_.panels();
    static constexpr int32_t kNothing[kPoints * kCols] = {};
    const auto dot = sizeof(T) == 1 ? k_.dot8 : k_.dot16;
    parallel_ranges(host_, blocks * panels, [&](int64_t begin, int64_t end) {
      Buffer<int32_t> sums(host_, kPoints * size * kCols);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t panel = task % panels, tile = task / panels * size;
        const int64_t tiles = std::min(size, count - tile);
        if (tiles <= 0) continue;
        const uint8_t* weights = p_.panels + panel * kPoints * shape_.point_bytes();
        const int32_t* starts = p_.starts == nullptr ? kNothing : p_.starts + panel * kPoints * kCols;
        for (int p = 0; p < kPoints; ++p) {
          const uint8_t* a = points + p * plane_ + tile * pixel_;
          int32_t* c = sums.data() + p * size * kCols;
          for (int64_t i = 0; i < tiles; i += kRows) {
            dot(a + i * pixel_, pixel_, 4, weights + p * shape_.point_bytes(), shape_.steps(), starts + p * kCols, 0,
                c + i * kCols, kCols, divide_up(std::min<int64_t>(kRows, tiles - i), 4) * 4);
          }
        }
        store(first + tile, tiles, panel, sums.data(), size * kCols);
      }
    });
  }

  void store(int64_t first, int64_t count, int64_t panel, const int32_t* sums, int64_t plane) {
    const Tiles& t = p_.tiles;
    const int64_t per_line = t.per_line(), channel = t.height * t.width;
    const int64_t filters = std::min<int64_t>(kCols, p_.filters - panel * kCols);
    for (int64_t i = 0; i < count;) {
      const int64_t line = (first + i) / per_line, col = (first + i) % per_line;
      const int64_t run = std::min({count - i, per_line - col, kRunTiles});
      const int64_t image = line / t.lines(), row = 2 * (line % t.lines());
      float* y = p_.y + (image * p_.filters + panel * kCols) * channel + row * t.width + 2 * col;
      k_.output(sums + i * kCols, plane, run, filters, std::min(2 * run, t.width - 2 * col),
                std::min<int64_t>(2, t.height - row), p_.scale, y, channel, t.width);
      i += run;
    }
  }

  const Problem& p_;
  const Host& host_;
  const WinogradKernels& k_;
  const int64_t padded_, pixel_;  // channels of a pixel, and its bytes
  const PanelShape shape_;
  int64_t plane_ = 0;
};

}  // namespace

void winograd_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y,
                   const Host& host) {
  const PanelShape shape{g.filters, g.channels, 1};
  Buffer<uint8_t> panels(host, shape.panels() * kPoints * shape.point_bytes());
  Buffer<int32_t> starts(host, shape.panels() * kPoints * kCols);
  forward_panels(w, g.filters, g.channels, panels.data(), starts.data(), host);
  const Problem p{x, g.batch, g.channels, g.input[0], g.input[1], g.filters, {g.output[0], g.output[1]},
                  g.pads[0], g.pads[1], panels.data(), starts.data(), scale, y};
  Convolution<int8_t>(p, host).run();
}

void winograd_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                         const Host& host) {
  const PanelShape shape{g.channels, g.filters, 2};
  Buffer<uint8_t> panels(host, shape.panels() * kPoints * shape.point_bytes());
  backward_panels(w, g.filters, g.channels, panels.data(), host);
  const Problem p{dy, g.batch, g.filters, g.output[0], g.output[1], g.channels, {g.input[0], g.input[1]},
                  2 - g.pads[0], 2 - g.pads[1], panels.data(), nullptr, scale, dx};
  Convolution<int16_t>(p, host).run();
}

}  // namespace fourbit
