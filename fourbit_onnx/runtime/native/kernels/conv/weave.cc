#include "kernels/conv/weave.h"

#include <algorithm>

namespace fourbit {
namespace {

// A row of the image from one row of each phase of the innermost dimension.
void weave_row(const float* const* rows, int64_t stride, int64_t length, float* out) {
  if (stride == 2) {  // a loop that compilers make two shuffles of
    const float *even = rows[0], *odd = rows[1];
    const int64_t pairs = length / 2;
    for (int64_t i = 0; i < pairs; ++i) {
      out[2 * i] = even[i];
      out[2 * i + 1] = odd[i];
    }
    if (length % 2 != 0) out[length - 1] = even[pairs];
    return;
  }
  for (int64_t phase = 0; phase < std::min(stride, length); ++phase) {
    const float* row = rows[phase];
    for (int64_t at = phase; at < length; at += stride) out[at] = *row++;
  }
}

// Where a row of an image comes from: phases phase, phase + 1, ... (of the innermost dimension), each from `window` rows
// on.
struct Line {
  int64_t phase, window;
};

std::vector<Line> lines_of(const std::vector<Phase>& phases, const ConvGeometry& g) {
  const size_t outer = g.input.size() - 1;
  Dims at(outer, 0);
  std::vector<Line> lines(product(Dims(g.input.begin(), g.input.end() - 1)));
  for (Line& line : lines) {
    // Phases are in the order in which `backward_phases` counts them, the innermost dimension fastest.
    int64_t phase = 0;
    for (size_t d = 0; d < outer; ++d) phase = phase * g.strides[d] + at[d] % g.strides[d];
    line = {phase * g.strides.back(), 0};
    const Dims& windows = phases[line.phase].grid.windows;
    for (size_t d = 0; d < outer; ++d) line.window = line.window * windows[d] + at[d] / g.strides[d];
    for (size_t d = outer; d-- > 0;) {
      if (++at[d] < g.input[d]) break;
      at[d] = 0;
    }
  }
  return lines;
}

}  // namespace

void weave(const std::vector<Phase>& phases, const std::vector<const float*>& results, const ConvGeometry& g,
           int64_t images, float* dx, const Host& host) {
  const int64_t stride = g.strides.back(), length = g.input.back(), channels = g.groups * g.channels;
  const std::vector<Line> lines = lines_of(phases, g);
  std::vector<int64_t> windows, row;  // of each phase: all of an image, and those of a row
  for (const Phase& phase : phases) {
    windows.push_back(product(phase.grid.windows));
    row.push_back(phase.grid.windows.back());
  }
  parallel_ranges(host, images * channels, [&](int64_t first, int64_t last) {
    std::vector<const float*> from(stride);
    for (int64_t task = first; task < last; ++task) {
      const int64_t place = task % channels * images + task / channels;
      float* out = dx + task * product(g.input);
      for (const Line& line : lines) {
        for (int64_t i = 0; i < stride; ++i) {
          const int64_t phase = line.phase + i;
          from[i] = results[phase] + place * windows[phase] + line.window * row[phase];
        }
        weave_row(from.data(), stride, length, out);
        out += length;
      }
    }
  });
}

}  // namespace fourbit
