// Forward, and the gradient to the input, which is a convolution of dy with the weights turned round.
#include "kernels/winograd/convolution.h"

#include <algorithm>

#include "kernels/winograd/frames.h"
#include "kernels/winograd/panels.h"
#include "kernels/winograd/tiles.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

// A task transforms its own inputs: what one core has just written is slow to read for another.
constexpr int64_t kTaskBytes = 512 << 10;  // of them, and
constexpr int64_t kTaskTiles = 128;        // whose sums are 256 KiB: both stay in the second-level cache
constexpr int64_t kRunTiles = 8;           // of one line, written together

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
    const int64_t most = std::min(kTaskTiles, std::max(kLeastTiles, kTaskBytes / (kPoints * pixel_)));
    const int64_t lines = std::max<int64_t>(1, most / per_line), tasks = divide_up(all, lines);
    parallel_ranges(host_, tasks, [&](int64_t begin, int64_t end) {
      // The dot products read four rows at a time: the last may reach beyond the tiles.
      // Points lie a little more than a power of two apart: or all sixteen would want the same lines of the cache.
      const int64_t plane = lines * per_line * pixel_ + kVectorBytes, size = divide_up(lines * per_line, 4) * 4 + 1;
      const int64_t rows = std::min(lines, p_.tiles.lines());
      const Frames frames(p_.x, p_.channels, p_.height, p_.width, sizeof(T),
                          std::min(2 * rows + 2, p_.height) * p_.width);
      Buffer<uint8_t> frame((2 * rows + 2) * (2 * per_line + 2) * pixel_);
      Buffer<uint8_t> points(kPoints * plane + 3 * pixel_);
      Buffer<int32_t> sums(kPoints * size * kCols);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t first = task * lines, count = std::min(lines, all - first);
        transform(first, count, frames, frame.data(), points.data(), plane);
        for (int64_t panel = 0; panel < shape_.panels(); ++panel) {
          multiply(count * per_line, panel, points.data(), plane, sums.data(), size);
          store(first * per_line, count * per_line, panel, sums.data(), size * kCols);
        }
      }
      k_.settle();
    });
  }

 private:
  static constexpr int64_t kLeastTiles = 48;

  // points[point][tile][channel]
  void transform(int64_t first, int64_t count, const Frames& frames, uint8_t* frame, uint8_t* points, int64_t plane) {
    const int64_t per_line = p_.tiles.per_line(), cols = 2 * per_line + 2;
    p_.tiles.for_images(first, first + count, [&](int64_t image, int64_t line, int64_t lines) {
      frames.read(image, 2 * line - p_.top, -p_.left, 2 * lines + 2, cols, frame);
      for (int64_t i = 0; i < lines; ++i) {
        for (int64_t j = 0; j < per_line; ++j, points += pixel_) {
          point(frame + (2 * i * cols + 2 * j) * pixel_, cols * padded_, points, plane);
        }
      }
    });
  }

  void point(const uint8_t* tile, int64_t row, uint8_t* out, int64_t plane) {
    if constexpr (sizeof(T) == 1) {
      k_.input8(reinterpret_cast<const int8_t*>(tile), row, padded_, out, plane);
    } else {
      k_.input16(reinterpret_cast<const int16_t*>(tile), row, padded_, reinterpret_cast<int16_t*>(out), plane / 2);
    }
  }

  // sums[point][tile][column] of a panel
  void multiply(int64_t tiles, int64_t panel, const uint8_t* points, int64_t plane, int32_t* sums, int64_t size) {
    static constexpr int32_t kNothing[kPoints * kCols] = {};
    const auto dot = sizeof(T) == 1 ? k_.dot8 : k_.dot16;
    const uint8_t* weights = p_.panels + panel * kPoints * shape_.point_bytes();
    const int32_t* starts = p_.starts == nullptr ? kNothing : p_.starts + panel * kPoints * kCols;
    for (int p = 0; p < kPoints; ++p) {
      for (int64_t i = 0; i < tiles; i += kRows) {
        dot(points + p * plane + i * pixel_, pixel_, 4, weights + p * shape_.point_bytes(), shape_.steps(),
            starts + p * kCols, 0, sums + (p * size + i) * kCols, kCols,
            divide_up(std::min<int64_t>(kRows, tiles - i), 4) * 4);
      }
    }
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
};

}  // namespace

void winograd_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y,
                   const Host& host) {
  const PanelShape shape{g.filters, g.channels, 1};
  Buffer<uint8_t> panels(shape.panels() * kPoints * shape.point_bytes());
  Buffer<int32_t> starts(shape.panels() * kPoints * kCols);
  forward_panels(w, g.filters, g.channels, panels.data(), starts.data(), host);
  const Problem p{x, g.batch, g.channels, g.input[0], g.input[1], g.filters, {g.output[0], g.output[1]},
                  g.pads[0], g.pads[1], panels.data(), starts.data(), scale, y};
  Convolution<int8_t>(p, host).run();
}

void winograd_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                         const Host& host) {
  const PanelShape shape{g.channels, g.filters, 2};
  Buffer<uint8_t> panels(shape.panels() * kPoints * shape.point_bytes());
  backward_panels(w, g.filters, g.channels, panels.data(), host);
  const Problem p{dy, g.batch, g.filters, g.output[0], g.output[1], g.channels, {g.input[0], g.input[1]},
                  2 - g.pads[0], 2 - g.pads[1], panels.data(), nullptr, scale, dx};
  Convolution<int16_t>(p, host).run();
}

}  // namespace fourbit
