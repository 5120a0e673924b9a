#include "kernels/conv/grid.h"

#include <algorithm>

#include "base/host.h"

namespace fourbit {
namespace {

// Counts through all points of a box, the last dimension fastest.
bool next(Dims& point, const Dims& box) {
  for (size_t d = point.size(); d-- > 0;) {
    if (++point[d] < box[d]) return true;
    point[d] = 0;
  }
  return false;
}

bool is_pointwise(const ConvGeometry& g) {
  const auto all = [](const Dims& dims, int64_t value) {
    return std::all_of(dims.begin(), dims.end(), [=](int64_t d) { return d == value; });
  };
  return all(g.kernel, 1) && all(g.strides, 1) && all(g.pads, 0);
}

}  // namespace

int64_t product(const Dims& dims) {
  int64_t count = 1;
  for (const int64_t d : dims) count *= d;
  return count;
}

int64_t conv_output_size(int64_t input, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding) {
  const int64_t room = input + padding - (dilation * (kernel - 1) + 1);
  return room < 0 ? -1 : room / stride + 1;
}

int64_t Grid::rows() const {
  int64_t count = 1;
  for (size_t d = 0; d + 1 < windows.size(); ++d) count *= windows[d];
  return count;
}

int64_t Grid::row_place(int64_t row) const {
  int64_t place = 0;
  for (size_t d = windows.size() - 1; d-- > 0;) {
    place += row % windows[d] * pitch[d];
    row /= windows[d];
  }
  return place;
}

std::vector<int64_t> Grid::source_rows() const {
  std::vector<int64_t> places(product(Dims(source.begin(), source.end() - 1)), 0);
  for (size_t i = 0; i < places.size(); ++i) {
    int64_t rest = static_cast<int64_t>(i);
    for (size_t d = source.size() - 1; d-- > 0;) {
      places[i] += place(d, rest % source[d] + before[d]);
      rest /= source[d];
    }
  }
  return places;
}

void grow(Frame& frame, const Dims& source, const Dims& windows, const Dims& step, const std::vector<Dims>& offsets) {
  frame.before.resize(source.size(), 0);
  frame.extent.resize(source.size(), 0);
  for (size_t d = 0; d < source.size(); ++d) {
    int64_t low = 0, high = 0;
    for (const Dims& offset : offsets) {
      low = std::min(low, offset[d]);
      high = std::max(high, offset[d]);
    }
    const int64_t reach = std::max(source[d], (std::max<int64_t>(windows[d], 1) - 1) * step[d] + high + 1);
    const int64_t after = std::max(frame.extent[d] - frame.before[d], reach);
    frame.before[d] = std::max(frame.before[d], -low);
    frame.extent[d] = frame.before[d] + after;
  }
}

Grid make_grid(const Frame& frame, const Dims& source, const Dims& windows, const Dims& step,
               const std::vector<Dims>& offsets) {
  Grid grid;
  grid.source = source;
  grid.before = frame.before;
  grid.extent = frame.extent;
  grid.windows = windows;
  grid.step = step;
  const size_t rank = source.size();
  grid.pitch.assign(rank, 0);
  grid.lane.assign(rank, 0);
  grid.size = 1;
  for (size_t d = rank; d-- > 0;) {
    grid.pitch[d] = grid.size;
    grid.size *= divide_up(grid.extent[d], step[d]);
  }
  for (size_t d = rank; d-- > 0;) {
    grid.lane[d] = grid.size;
    grid.size *= step[d];
  }
  for (const Dims& offset : offsets) {
    int64_t place = 0;
    for (size_t d = 0; d < rank; ++d) place += grid.place(d, offset[d] + grid.before[d]);
    grid.taps.push_back(place);
  }
  return grid;
}

namespace {

Grid lone_grid(const Dims& source, const Dims& windows, const Dims& step, const std::vector<Dims>& offsets) {
  Frame frame;
  grow(frame, source, windows, step, offsets);
  return make_grid(frame, source, windows, step, offsets);
}

}  // namespace

Grid forward_grid(const ConvGeometry& g) {
  if (is_pointwise(g)) return lone_grid({product(g.input)}, {product(g.output)}, {1}, {Dims{0}});
  std::vector<Dims> offsets;
  Dims tap(g.kernel.size(), 0);
  do {
    Dims offset;
    for (size_t d = 0; d < tap.size(); ++d) offset.push_back(tap[d] * g.dilations[d] - g.pads[d]);
    offsets.push_back(offset);
  } while (next(tap, g.kernel));
  return lone_grid(g.input, g.output, g.strides, offsets);
}

std::vector<Phase> backward_phases(const ConvGeometry& g) {
  if (is_pointwise(g)) return {{lone_grid({product(g.output)}, {product(g.input)}, {1}, {Dims{0}}), {0}, {0}}};
  const size_t rank = g.input.size();
  const Dims unit(rank, 1);
  std::vector<Phase> phases;
  std::vector<std::vector<Dims>> all_offsets;
  Frame frame;
  Dims phase(rank, 0);
  do {
    // Input coordinate i = stride * m + phase meets output o at tap t when
    // stride * o = i + pad - dilation * t, that is o = m + (phase + pad - dilation * t) / stride.
    Phase one;
    one.phase = phase;
    std::vector<Dims> offsets;
    Dims tap(rank, 0);
    int64_t index = 0;
    do {
      Dims offset;
      bool met = true;
      for (size_t d = 0; d < rank; ++d) {
        const int64_t distance = phase[d] + g.pads[d] - g.dilations[d] * tap[d];
        met = met && distance % g.strides[d] == 0;
        offset.push_back(distance / g.strides[d]);
      }
      if (met) {
        offsets.push_back(offset);
        one.taps.push_back(index);
      }
      ++index;
    } while (next(tap, g.kernel));
    Dims windows;
    for (size_t d = 0; d < rank; ++d) {
      windows.push_back(phase[d] < g.input[d] ? divide_up(g.input[d] - phase[d], g.strides[d]) : 0);
    }
    one.grid.windows = windows;
    phases.push_back(one);
    all_offsets.push_back(offsets);
    grow(frame, g.output, windows, unit, offsets);
  } while (next(phase, g.strides));
  for (size_t i = 0; i < phases.size(); ++i) {
    phases[i].grid = make_grid(frame, g.output, Dims(phases[i].grid.windows), unit, all_offsets[i]);
  }
  return phases;
}

}  // namespace fourbit
