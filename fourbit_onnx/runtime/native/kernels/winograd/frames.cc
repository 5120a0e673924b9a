#include "kernels/winograd/frames.h"

#include <algorithm>
#include <cstring>

namespace fourbit {
namespace {

static_assert(4 * kTurnLines == kVectorBytes, "a pixel is whole vectors");

}  // namespace

Frames::Frames(const Operand& x, int64_t channels, int64_t height, int64_t width, int bytes, int64_t most)
    : x_(x), channels_(channels), height_(height), width_(width), bytes_(bytes), most_(most),
      unpack_(best_unpack()), interleave_(best_interleave()), turn_(best_turn()),
      lines_(4 * most), words_(4 * (kTurnLines * most + kTurnLines)), others_(x.others == nullptr ? 0 : 4 * most) {
  const auto split = [](int64_t value, int code, uint8_t (&table)[2][16]) {
    table[0][code] = static_cast<uint8_t>(value);
    table[1][code] = static_cast<uint8_t>(value >> 8);
  };
  for (int code = 0; code < 16; ++code) {
    split(x.values[code] - x.zero_point, code, table_);
    if (x.others != nullptr) split((*x.other_values)[code], code, other_table_);
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
  const int64_t words = divide_up(channels_, per_word), line = 4 * most_;
  for (int64_t first = 0; first < words; first += kTurnLines) {
    const int64_t some = std::min(kTurnLines, words - first);
    for (int64_t i = 0; i < some; ++i) fill(image, first + i, row0, pixels, words_.data() + i * line);
    for (int64_t i = some; i < kTurnLines; ++i) std::memset(words_.data() + i * line, 0, 4 * pixels);
    for (int64_t row = row0; row < row1; ++row) {
      turn_(words_.data() + 4 * ((row - row0) * width_ + col0), line, col1 - col0,
            to + ((row - top) * cols + (col0 - left)) * pixel + 4 * first, pixel);
    }
  }
}

void Frames::fill(int64_t image, int64_t word, int64_t row, int64_t pixels, uint8_t* out) const {
  fill(x_.codes, table_, image, word, row, pixels, out);
  if (x_.others == nullptr) return;
  fill(x_.others, other_table_, image, word, row, pixels, others_.data());
  uint16_t* const sums = reinterpret_cast<uint16_t*>(out);
  const uint16_t* const others = reinterpret_cast<const uint16_t*>(others_.data());
  for (int64_t i = 0; i < 2 * pixels; ++i) sums[i] = static_cast<uint16_t>(sums[i] + others[i]);
}

void Frames::fill(const uint8_t* codes, const uint8_t (&tables)[2][16], int64_t image, int64_t word, int64_t row,
                  int64_t pixels, uint8_t* out) const {
  const uint8_t* lines[4];
  for (int j = 0; j < 4; ++j) {
    const int64_t channel = word * (4 / bytes_) + j / bytes_;
    uint8_t* line = lines_.data() + j * most_;
    lines[j] = line;
    if (channel < channels_) {
      unpack_(codes, ((image * channels_ + channel) * height_ + row) * width_, pixels, tables[j % bytes_], line);
    } else {
      std::memset(line, 0, pixels);
    }
  }
  interleave_(lines, pixels, out);
}

}  // namespace fourbit
