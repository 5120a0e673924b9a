#include "kernels/conv/conv.h"

#include <algorithm>
#include <numeric>

#include "kernels/conv/small_groups.h"
#include "kernels/conv/sources.h"
#include "kernels/conv/weights.h"
#include "kernels/winograd/convolution.h"

namespace fourbit {
namespace {

constexpr int64_t kImageBytes = 4 << 20;    // unpacked images at a time: they should stay in the cache
constexpr int64_t kImageColumns = 128;     // windows of images that are one task: whole panels
constexpr int64_t kColumnBytes = 192 << 10; // packed columns of a task: within the second-level cache

// Results are images again: column -> image and window -> place in the output.
class ImageOutput final : public Output {
 public:
  // Windows of `grid` are the pixels step * window + phase of [image, group, row, spatial...].
  ImageOutput(float* base, int64_t groups, int64_t rows, const Dims& spatial, const Dims& step, const Dims& phase,
              const Dims& windows)
      : base_(base), groups_(groups), rows_(rows), pixels_(product(spatial)), step_(step), phase_(phase),
        windows_(windows), count_(product(windows)), pitch_(spatial.size(), 1) {
    for (size_t d = spatial.size() - 1; d-- > 0;) pitch_[d] = pitch_[d + 1] * spatial[d + 1];
    dense_ = windows == spatial;
  }

  void columns(int64_t group, int64_t panel, Place& place) const override {
    const int64_t first = panel * kCols;
    place.row = pixels_;
    place.origin = base_ + group * rows_ * pixels_;
    if (dense_ && first / count_ == (first + kCols - 1) / count_) {
      place.origin += first / count_ * groups_ * rows_ * pixels_ + first % count_;
      place.column = 1;
      return;
    }
    place.column = 0;
    for (int j = 0; j < kCols; ++j) {
      int64_t window = (first + j) % count_, pixel = 0;
      for (size_t d = windows_.size(); d-- > 0;) {
        pixel += (window % windows_[d] * step_[d] + phase_[d]) * pitch_[d];
        window /= windows_[d];
      }
      place.offset[j] = (first + j) / count_ * groups_ * rows_ * pixels_ + pixel;
    }
  }

 private:
  float* base_;
  int64_t groups_, rows_, pixels_;
  Dims step_, phase_, windows_;
  int64_t count_;
  Dims pitch_;
  bool dense_;
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
  const Planes a_planes = unsigned_planes(w.values, w.zero_point, false);
  const Planes b_planes = signed_planes(x.values, x.zero_point);
  const Grid grid = forward_grid(g);
  const int64_t taps = product(g.kernel), weights = g.groups * g.filters * g.channels * taps;
  const int64_t steps = taps * divide_up(g.channels, 4);

  Buffer<uint8_t> bytes(weights * a_planes.count);
  unpack_weights(w.codes, weights, a_planes, bytes.data(), host);
  std::vector<int64_t> all(taps);
  std::iota(all.begin(), all.end(), 0);
  const WeightOrder order{g.filters, g.channels, g.channels * taps, taps, all};
  Buffer<uint8_t> packed(packed_weights_size(order, g.groups, a_planes));
  pack_weights(bytes.data(), g.groups, weights / std::max<int64_t>(1, g.groups), a_planes, order, packed.data(), host);
  const Packed a(packed.data(), g.groups, divide_up(g.filters, kRows), a_planes.count, steps, kStepA);

  const bool flat = grid.windows.size() != g.output.size();  // pointwise
  const Dims spatial = flat ? Dims{product(g.output)} : g.output, unit(spatial.size(), 1), zero(spatial.size(), 0);
  const int64_t some = images_at_a_time({x.codes, 0, 1, g.groups, g.channels}, b_planes, grid);
  Buffer<uint8_t> quads(quads_size({x.codes, 0, std::min(some, g.batch), g.groups, g.channels}, b_planes, grid));
  for (int64_t first = 0; first < g.batch; first += some) {
    const Images images{x.codes, first, std::min(some, g.batch - first), g.groups, g.channels};
    fill_quads(images, b_planes, grid, quads.data(), host);
    const WindowColumns b(images, b_planes.count, grid, quads.data());
    float* base = y + first * g.groups * g.filters * product(g.output);
    const ImageOutput out(base, g.groups, g.filters, spatial, unit, zero, grid.windows);
    multiply(b, a, g.groups, g.filters, steps, a_planes, b_planes, scale, out, host);
  }
}

void conv_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                     const Host& host) {
  if (is_small(g, dy, w)) return small_conv_input_grad(g, dy, w, scale, dx, host);
  if (winograd_suits_input_grad(g, dy, w)) return winograd_input_grad(g, dy, w, scale, dx, host);
  const Planes a_planes = unsigned_planes(w.values, w.zero_point, false);
  const Planes b_planes = signed_planes(dy.values, dy.zero_point);
  const std::vector<Phase> phases = backward_phases(g);
  const Grid& grid = phases.front().grid;  // of the images; all phases share the frame
  const int64_t taps = product(g.kernel), weights = g.groups * g.filters * g.channels * taps;

  Buffer<uint8_t> bytes(weights * a_planes.count);
  unpack_weights(w.codes, weights, a_planes, bytes.data(), host);
  const bool flat = grid.windows.size() != g.input.size();
  const Dims spatial = flat ? Dims{product(g.input)} : g.input;
  const Dims step = flat ? Dims{1} : g.strides;

  std::vector<int64_t> all(taps);
  std::iota(all.begin(), all.end(), 0);
  const WeightOrder largest{g.channels, g.filters, taps, g.channels * taps, all};
  Buffer<uint8_t> packed(packed_weights_size(largest, g.groups, a_planes) + kStepA);
  std::vector<Packed> sides;
  uint8_t* place = packed.data();  // phases divide the taps among themselves
  for (const Phase& phase : phases) {
    const WeightOrder order{g.channels, g.filters, taps, g.channels * taps, phase.taps};
    const int64_t steps = static_cast<int64_t>(phase.taps.size()) * divide_up(g.filters, 4);
    pack_weights(bytes.data(), g.groups, weights / g.groups, a_planes, order, place, host);
    sides.emplace_back(place, g.groups, divide_up(g.channels, kRows), a_planes.count, steps, kStepA);
    place += packed_weights_size(order, g.groups, a_planes);
  }
  const auto all_phases = [&](int64_t first, int64_t count, uint8_t* quads, const Host& on) {
    const Images images{dy.codes, first, count, g.groups, g.filters};
    fill_quads(images, b_planes, grid, quads, on);
    float* base = dx + first * g.groups * g.channels * product(g.input);
    for (size_t i = 0; i < phases.size(); ++i) {
      const Phase& phase = phases[i];
      if (product(phase.grid.windows) == 0) continue;
      const int64_t steps = static_cast<int64_t>(phase.taps.size()) * divide_up(g.filters, 4);
      const WindowColumns b(images, b_planes.count, phase.grid, quads);
      const ImageOutput out(base, g.groups, g.channels, spatial, step, phase.phase, phase.grid.windows);
      multiply(b, sides[i], g.groups, g.channels, steps, a_planes, b_planes, scale, out, on);
    }
  };
  const auto room = [&](int64_t images) {
    return quads_size({dy.codes, 0, images, g.groups, g.filters}, b_planes, grid);
  };
  const int64_t few = divide_up(kImageColumns, std::max<int64_t>(1, product(grid.windows)));
  if (phases.size() > 1 && g.batch >= 4 * few) {
    // Every phase writes some elements of each line of dx: while it is in the cache of one core.
    parallel_ranges(host, divide_up(g.batch, few), [&](int64_t begin, int64_t end) {
      Buffer<uint8_t> quads(room(few));
      for (int64_t first = begin * few; first < std::min(end * few, g.batch); first += few) {
        all_phases(first, std::min(few, g.batch - first), quads.data(), Alone());
      }
    });
    return;
  }
  const int64_t some = images_at_a_time({dy.codes, 0, 1, g.groups, g.filters}, b_planes, grid);
  Buffer<uint8_t> quads(room(std::min(some, g.batch)));
  for (int64_t first = 0; first < g.batch; first += some) {
    all_phases(first, std::min(some, g.batch - first), quads.data(), host);
  }
}

void conv_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                      const Host& host) {
  if (is_small(g, x, dy)) return small_conv_weight_grad(g, x, dy, scale, dw, host);
  if (winograd_suits_weight_grad(g, x, dy)) return winograd_weight_grad(g, x, dy, scale, dw, host);
  const Planes a_planes = unsigned_planes(x.values, x.zero_point, true);
  const Planes b_planes = signed_planes(dy.values, dy.zero_point);
  const Grid grid = forward_grid(g);
  const int64_t taps = product(g.kernel), rows = g.channels * taps;
  const int64_t steps = window_steps(g.batch, grid), panels = divide_up(g.filters, kCols);

  const Images inputs{x.codes, 0, g.batch, g.groups, g.channels};
  Buffer<uint8_t> bytes(bytes_size(inputs, a_planes, grid));
  fill_bytes(inputs, a_planes, grid, bytes.data(), host);
  const WindowRows a(inputs, a_planes.count, grid, bytes.data());

  const Images gradients{dy.codes, 0, g.batch, g.groups, g.filters};
  Buffer<uint8_t> packed(g.groups * panels * b_planes.count * steps * kStepB);
  pack_channels(gradients, b_planes, grid, packed.data(), host);
  const Packed b(packed.data(), g.groups, panels, b_planes.count, steps, kStepB);

  // Rows of a are packed again for each block of columns: take all columns in one block.
  const StridedOutput out(dw, g.filters * rows, 1, rows);
  gemm({g.groups, rows, g.filters, steps, 512, 1, panels, &a_planes, &b_planes, &a, &b, scale, &out}, host);
}

}  // namespace fourbit
