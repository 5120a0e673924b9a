#include "kernels/conv/weave.h"

#include <algorithm>

namespace fourbit {
namespace {

// A row of the image from one row of each phase of the innermost dimension, at its place in the phase's results;
// results that are nullptr are all 0.
void weave_row(const float* const* results, const int64_t* places, int64_t stride, int64_t length, float* out) {
  const auto row = [&](int64_t phase) { return results[phase] == nullptr ? nullptr : results[phase] + places[phase]; };
  const float *even = row(0), *odd = stride == 2 ? row(1) : nullptr;
  if (even != nullptr && stride == 2) {  // loops that compilers make two shuffles of
    const int64_t pairs = length / 2;
    if (odd != nullptr) {
      for (int64_t i = 0; i < pairs; ++i) {
        out[2 * i] = even[i];
        out[2 * i + 1] = odd[i];
      }
    } else {
      for (int64_t i = 0; i < pairs; ++i) {
        out[2 * i] = even[i];
        out[2 * i + 1] = 0;
      }
    }
    if (length % 2 != 0) out[length - 1] = even[pairs];
    return;
  }
  std::fill_n(out, length, 0.0f);
  for (int64_t phase = 0; phase < std::min(stride, length); ++phase) {
    const float* from = row(phase);
    if (from == nullptr) continue;
    for (int64_t at = phase; at < length; at += stride) out[at] = *from++;
  }
}

}  // namespace

Weave::Weave(const std::vector<Phase>& phases, const ConvGeometry& g, bool padded)
    : stride_(g.strides.back()), length_(g.input.back()) {
  const size_t outer = g.input.size() - 1;
  const int64_t lines = product(Dims(g.input.begin(), g.input.end() - 1));
  Dims at(outer, 0);
  for (int64_t line = 0; line < lines; ++line) {
    // Phases are in the order in which `backward_phases` counts them, the innermost dimension fastest.
    int64_t phase = 0, row = 0;
    for (size_t d = 0; d < outer; ++d) phase = phase * g.strides[d] + at[d] % g.strides[d];
    phase_.push_back(phase * stride_);
    const Dims& windows = phases[phase_.back()].grid.windows;
    for (size_t d = 0; d < outer; ++d) row = row * windows[d] + at[d] / g.strides[d];
    for (int64_t i = 0; i < stride_; ++i) {
      const Grid& grid = phases[phase_.back() + i].grid;
      places_.push_back(padded ? grid.row_place(row) : row * grid.row_length());
    }
    for (size_t d = outer; d-- > 0;) {
      if (++at[d] < g.input[d]) break;
      at[d] = 0;
    }
  }
}

void Weave::operator()(const float* const* results, float* dx) const {
  const int64_t* places = places_.data();
  for (const int64_t phase : phase_) {
    weave_row(results + phase, places, stride_, length_, dx);
    places += stride_;
    dx += length_;
  }
}

void weave(const std::vector<Phase>& phases, const std::vector<const float*>& results, const ConvGeometry& g,
           int64_t images, float* dx, const Host& host) {
  const int64_t channels = g.groups * g.channels;
  const Weave one(phases, g, false);
  std::vector<int64_t> windows;  // of each phase, all of an image
  for (const Phase& phase : phases) windows.push_back(product(phase.grid.windows));
  parallel_ranges(host, images * channels, [&](int64_t first, int64_t last) {
    std::vector<const float*> from(results);
    for (int64_t task = first; task < last; ++task) {
      const int64_t place = task % channels * images + task / channels;
      for (size_t phase = 0; phase < from.size(); ++phase) {
        from[phase] = results[phase] == nullptr ? nullptr : results[phase] + place * windows[phase];
      }
      one(from.data(), dx + task * product(g.input));
    }
  });
}

}  // namespace fourbit
