// Rows of images: into a padded one, and out of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/conv/grid.h"

namespace fourbit {

// Rows are short and of few lengths: constant sizes become a few moves, where memcpy is a call, which costs more than a
// loop over a short row.
template <typename T>
inline void copy_row(const T* from, int64_t length, T* to) {
  switch (length) {
    case 32: std::memcpy(to, from, 32 * sizeof(T)); return;
    case 28: std::memcpy(to, from, 28 * sizeof(T)); return;
    case 16: std::memcpy(to, from, 16 * sizeof(T)); return;
    case 14: std::memcpy(to, from, 14 * sizeof(T)); return;
    case 8: std::memcpy(to, from, 8 * sizeof(T)); return;
    case 7: std::memcpy(to, from, 7 * sizeof(T)); return;
    case 4: std::memcpy(to, from, 4 * sizeof(T)); return;
    case 2: std::memcpy(to, from, 2 * sizeof(T)); return;
    default: break;
  }
  if (length > 32) {
    std::memcpy(to, from, length * sizeof(T));
  } else {
    for (int64_t i = 0; i < length; ++i) to[i] = from[i];
  }
}

// Every second element here, every other there: a loop that compilers make shuffles of.
template <typename T>
inline void deal_pairs(const T* __restrict__ row, int64_t length, T* __restrict__ even, T* __restrict__ odd) {
  const int64_t pairs = length / 2;
  for (int64_t i = 0; i < pairs; ++i) {
    even[i] = row[2 * i];
    odd[i] = row[2 * i + 1];
  }
  if (length % 2 != 0) even[pairs] = row[length - 1];
}

// A row of the source into its place, of which `image` is one of `Grid::source_rows`.
template <typename T>
inline void deal_row(const T* row, int64_t length, const Grid& grid, T* image) {
  const int64_t step = grid.step.back(), before = grid.before.back();
  if (step == 1) return copy_row(row, length, image + before);
  const size_t last = grid.source.size() - 1;
  if (step == 2) return deal_pairs(row, length, image + grid.place(last, before), image + grid.place(last, before + 1));
  for (int64_t r = 0; r < std::min(step, length); ++r) {
    T* lane = image + grid.place(last, before + r);
    for (int64_t i = r; i < length; i += step) *lane++ = row[i];
  }
}

}  // namespace fourbit
