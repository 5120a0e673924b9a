#include "kernels/conv/conv.h"

#include <algorithm>

#include "kernels/conv/small_groups.h"
#include "kernels/conv/sources.h"
#include "kernels/conv/weave.h"
#include "kernels/conv/weights.h"
#include "kernels/winograd/convolution.h"

namespace fourbit {
namespace {

constexpr int64_t kImageBytes = 4 << 20;    // unpacked images at a time: they should stay in the cache
constexpr int64_t kImageColumns = 128;     // windows of images that are one task: whole panels
constexpr int64_t kColumnBytes = 192 << 10; // packed columns of a task: within the second-level cache

// Results are images again, [image, group, row, window]: column -> image and window -> place in the output.
class ImageOutput final : public Output {
 public:
  ImageOutput(float* base, int64_t groups, int64_t rows, int64_t windows)
      : base_(base), groups_(groups), rows_(rows), windows_(windows) {}

  void columns(int64_t group, int64_t panel, Place& place) const override {
    const int64_t first = panel * kCols;
    place.row = windows_;
    place.origin = base_ + group * rows_ * windows_;
    if (first / windows_ == (first + kCols - 1) / windows_) {
      place.origin += first / windows_ * groups_ * rows_ * windows_ + first % windows_;
      place.column = 1;
      return;
    }
    place.column = 0;
    for (int64_t j = 0; j < kCols; ++j) {
      place.offset[j] = (first + j) / windows_ * groups_ * rows_ * windows_ + (first + j) % windows_;
    }
  }

 private:
  float* base_;
  int64_t groups_, rows_, windows_;
};

// One grid over some images, times packed weights.
void multiply(const WindowColumns& columns, const Packed& weights, int64_t groups, int64_t rows, int64_t steps,
              const Planes& a_planes, const Planes& b_planes, float scale, const Output& out, const Host& host) {
  Gemm g{groups, rows, columns.cols(), steps, kMaxSteps, divide_up(rows, kRows), 1,
         &a_planes, &b_planes, &weights, &columns, scale, &out};
  g.col_block = std::clamp<int64_t>(kColumnBytes / std::max<int64_t>(1, steps * kStepB * b_planes.count), 1, 8);
  while (g.col_block > 1 && groups * divide_up(divide_up(g.cols, kCols), g.col_block) < 16) g.col_block /= 2;
  gemm(g, host);
}

int64_t images_at_a_time(const Images& one, const Planes& planes, const Grid& grid) {
  return std::max<int64_t>(1, kImageBytes / std::max<int64_t>(1, quads_size(one, planes, grid)));
}

}  // namespace

void conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y, const Host& host) {
  if (is_small(g, x, w)) return small_conv(g, x, w, scale, y, host);
  if (winograd_suits(g, x, w)) return winograd_conv(g, x, w, scale, y, host);
  const Planes a_planes = unsigned_planes(w, false);
  const Planes b_planes = signed_planes(x);
  const Grid grid = forward_grid(g);
  const int64_t taps = product(g.kernel), steps = taps * divide_up(g.channels, 4);

  const Weights weights(w.codes, g.groups, g.filters, g.channels, taps, a_planes);
  Buffer<uint8_t> bytes(weights.size()), packed(weights.filter_panels_size());
  weights.unpack(bytes.data(), host);
  weights.pack_filters(bytes.data(), packed.data(), host);
  const Packed a(packed.data(), g.groups, divide_up(g.filters, kRows), a_planes.count, steps, kStepA);

  const int64_t some = images_at_a_time({x, 0, 1, g.groups, g.channels}, b_planes, grid);
  Buffer<uint8_t> quads(quads_size({x, 0, std::min(some, g.batch), g.groups, g.channels}, b_planes, grid));
  for (int64_t first = 0; first < g.batch; first += some) {
    const Images images{x, first, std::min(some, g.batch - first), g.groups, g.channels};
    fill_quads(images, b_planes, grid, quads.data(), host);
    const WindowColumns b(images, b_planes.count, grid, quads.data());
    float* base = y + first * g.groups * g.filters * product(g.output);
    const ImageOutput out(base, g.groups, g.filters, product(grid.windows));
    multiply(b, a, g.groups, g.filters, steps, a_planes, b_planes, scale, out, host);
  }
}

void conv_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                     const Host& host) {
  if (is_small(g, dy, w)) return small_conv_input_grad(g, dy, w, scale, dx, host);
  if (winograd_suits_input_grad(g, dy, w)) return winograd_input_grad(g, dy, w, scale, dx, host);
  const Planes a_planes = unsigned_planes(w, false);
  const Planes b_planes = signed_planes(dy);
  const std::vector<Phase> phases = backward_phases(g);
  const Grid& grid = phases.front().grid;  // of the images; all phases share the frame
  const int64_t taps = product(g.kernel);

  const Weights weights(w.codes, g.groups, g.filters, g.channels, taps, a_planes);
  Buffer<uint8_t> bytes(weights.size()), packed(weights.channel_panels_size(taps) + kStepA);
  weights.unpack(bytes.data(), host);
  std::vector<Packed> sides;
  uint8_t* place = packed.data();  // phases divide the taps among themselves
  for (const Phase& phase : phases) {
    const int64_t count = static_cast<int64_t>(phase.taps.size());
    weights.pack_channels(bytes.data(), phase.taps, place, host);
    sides.emplace_back(place, g.groups, divide_up(g.channels, kRows), a_planes.count,
                       count * divide_up(g.filters, 4), kStepA);
    place += weights.channel_panels_size(count);
  }
  const int64_t rows = g.groups * g.channels;
  const auto some_images = [&](int64_t first, int64_t count, uint8_t* quads, float* scratch, const Host& on) {
    const Images images{dy, first, count, g.groups, g.filters};
    fill_quads(images, b_planes, grid, quads, on);
    float* const base = dx + first * rows * product(g.input);
    std::vector<const float*> results;
    for (size_t i = 0; i < phases.size(); ++i) {
      const Grid& windows = phases[i].grid;
      const int64_t steps = static_cast<int64_t>(phases[i].taps.size()) * divide_up(g.filters, 4);
      if (steps == 0 && phases.size() > 1) {
        results.push_back(nullptr);
        continue;
      }
      const WindowColumns b(images, b_planes.count, windows, quads);
      const ImageOutput image(base, g.groups, g.channels, product(windows.windows));
      const StridedOutput together(scratch, g.channels * b.cols(), b.cols(), 1);
      const Output& out = phases.size() == 1 ? static_cast<const Output&>(image) : together;
      multiply(b, sides[i], g.groups, g.channels, steps, a_planes, b_planes, scale, out, on);
      results.push_back(scratch);
      scratch += rows * b.cols();
    }
    if (phases.size() > 1) weave(phases, results, g, count, base, on);
  };
  const auto quads_room = [&](int64_t images) {
    return quads_size({dy, 0, images, g.groups, g.filters}, b_planes, grid);
  };
  const auto room = [&](int64_t images) { return phases.size() > 1 ? images * rows * product(g.input) : 0; };
  const int64_t few = divide_up(kImageColumns, std::max<int64_t>(1, product(grid.windows)));
  if (phases.size() > 1 && g.batch >= 4 * few) {
    // Weave what is in the cache of one core.
    parallel_ranges(host, divide_up(g.batch, few), [&](int64_t begin, int64_t end) {
      Buffer<uint8_t> quads(quads_room(few));
      Buffer<float> scratch(room(few));
      for (int64_t first = begin * few; first < std::min(end * few, g.batch); first += few) {
        some_images(first, std::min(few, g.batch - first), quads.data(), scratch.data(), Alone());
      }
    });
    return;
  }
  const int64_t some = std::min(images_at_a_time({dy, 0, 1, g.groups, g.filters}, b_planes, grid), g.batch);
  Buffer<uint8_t> quads(quads_room(some));
  Buffer<float> scratch(room(some));
  for (int64_t first = 0; first < g.batch; first += some) {
    some_images(first, std::min(some, g.batch - first), quads.data(), scratch.data(), host);
  }
}

void conv_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                      const Host& host) {
  if (is_small(g, x, dy)) return small_conv_weight_grad(g, x, dy, scale, dw, host);
  if (winograd_suits_weight_grad(g, x, dy)) return winograd_weight_grad(g, x, dy, scale, dw, host);
  const Planes a_planes = unsigned_planes(x, true);
  const Planes b_planes = signed_planes(dy);
  const Grid grid = forward_grid(g);
  const int64_t taps = product(g.kernel), rows = g.channels * taps;
  const int64_t steps = window_steps(g.batch, grid), panels = divide_up(g.filters, kCols);

  const Images inputs{x, 0, g.batch, g.groups, g.channels};
  Buffer<uint8_t> bytes(bytes_size(inputs, a_planes, grid));
  fill_bytes(inputs, a_planes, grid, bytes.data(), host);
  const WindowRows a(inputs, a_planes.count, grid, bytes.data());

  const Images gradients{dy, 0, g.batch, g.groups, g.filters};
  Buffer<uint8_t> packed(g.groups * panels * b_planes.count * steps * kStepB);
  pack_channels(gradients, b_planes, grid, packed.data(), host);
  const Packed b(packed.data(), g.groups, panels, b_planes.count, steps, kStepB);

  // Rows of a are packed again for each block of columns: take all columns in one block.
  const StridedOutput out(dw, g.filters * rows, 1, rows);
  gemm({g.groups, rows, g.filters, steps, 512, 1, panels, &a_planes, &b_planes, &a, &b, scale, &out}, host);
}

}  // namespace fourbit
