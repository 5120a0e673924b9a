// The 2x2 tiles of an output, in lines: tile line r of image n is number n * lines + r of all.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/host.h"

namespace fourbit {

constexpr int64_t kBandTiles = 128;  // read and transformed together: neighbouring lines share rows of the image

struct Tiles {
  int64_t height, width;  // of the output
  int64_t lines() const { return divide_up(height, 2); }     // of an image
  int64_t per_line() const { return divide_up(width, 2); }

  // Lines that a task transforms.
  int64_t band() const { return std::max<int64_t>(1, kBandTiles / per_line()); }

  // Calls part(image, first line within it, lines) for each image that lines first..last of all touch.
  template <typename Part>
  void for_images(int64_t first, int64_t last, const Part& part) const {
    while (first < last) {
      const int64_t image = first / lines(), line = first % lines();
      const int64_t count = std::min(last - first, lines() - line);
      part(image, line, count);
      first += count;
    }
  }
};

}  // namespace fourbit
