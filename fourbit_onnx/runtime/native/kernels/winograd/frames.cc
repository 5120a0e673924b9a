#include "kernels/winograd/frames.h"

#include <algorithm>
#include <cstring>

namespace fourbit {

Frames::Frames(const Operand& x, int64_t channels, int64_t height, int64_t width, int bytes, int64_t most,
               const Host& host)
    : codes_(x.codes), channels_(channels), height_(height), width_(width), bytes_(bytes), most_(most),
      unpack_(best_unpack()), interleave_(best_interleave()), lines_(host, 4 * most), words_(host, most) {
  for (int code = 0; code < 16; ++code) {
    const int64_t value = x.values[code] - x.zero_point;
    table_[0][code] = static_cast<uint8_t>(value);
    table_[1][code] = static_cast<uint8_t>(value >> 8);
  }
}

void Frames::read(int64_t image, int64_t top, int64_t left, int64_t rows, int64_t cols, void* frame) const {
  const int64_t pixel = padded(channels_, bytes_) * bytes_, per_word = 4 / bytes_;
  std::memset(frame, 0, rows * cols * pixel);
  const int64_t row0 = std::max<int64_t>(top, 0), row1 = std::min(top + rows, height_);
  const int64_t col0 = std::max<int64_t>(left, 0), col1 = std::min(left + cols, width_);
  const int64_t pixels = (row1 - row0) * width_;
  if (row1 <= row0 || col1 <= col0) return;
  uint8_t* const to = static_cast<uint8_t*>(frame);
  for (int64_t word = 0; word < divide_up(channels_, per_word); ++word) {
    const uint8_t* lines[4];
    for (int j = 0; j < 4; ++j) {
      const int64_t channel = word * per_word + j / bytes_;
      uint8_t* line = lines_.data() + j * most_;
      lines[j] = line;
      if (channel < channels_) {
        unpack_(codes_, ((image * channels_ + channel) * height_ + row0) * width_, pixels, table_[j % bytes_], line);
      } else {
        std::memset(line, 0, pixels);
      }
    }
    interleave_(lines, pixels, reinterpret_cast<uint8_t*>(words_.data()));
    for (int64_t row = row0; row < row1; ++row) {
      const uint32_t* from = words_.data() + (row - row0) * width_ + col0;
      uint8_t* place = to + ((row - top) * cols + (col0 - left)) * pixel + word * 4;
      for (int64_t col = col0; col < col1; ++col, ++from, place += pixel) std::memcpy(place, from, 4);
    }
  }
}

}  // namespace fourbit
