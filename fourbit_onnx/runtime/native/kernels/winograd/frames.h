// Images of codes as channel-last values with padding, part by part.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/bytes/bytes.h"
#include "kernels/gemm/matmul.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {

// Reads parts of code images [image][channel][height][width]. For one thread: it has scratch memory.
class Frames {
 public:
  // Values of `bytes` 1 or 2, which must hold value - zero_point of every code; at most `most` pixels of a channel are
  // read at once. Two phases have values of 2 bytes.
  Frames(const Operand& x, int64_t channels, int64_t height, int64_t width, int bytes, int64_t most);

  // Channels of a frame: the next multiple of kVectorBytes; those added are 0.
  static int64_t padded(int64_t channels, int bytes) {
    return divide_up(channels * bytes, kVectorBytes) * (kVectorBytes / bytes);
  }

  // frame[row][col][channel]: pixel (top + row, left + col) of the image, 0 outside it.
  void read(int64_t image, int64_t top, int64_t left, int64_t rows, int64_t cols, void* frame) const;

 private:
  // `pixels` of the channels of a word, from a row on.
  void fill(int64_t image, int64_t word, int64_t row, int64_t pixels, uint8_t* out) const;

  // values of `codes` by the tables of low and high bytes; of all channels of a word
  void fill(const uint8_t* codes, const uint8_t (&tables)[2][16], int64_t image, int64_t word, int64_t row, int64_t pixels,
            uint8_t* out) const;

  const Operand& x_;
  int64_t channels_, height_, width_;
  int bytes_;
  int64_t most_;
  uint8_t table_[2][16], other_table_[2][16];  // low and high byte of the value of a code
  Unpack unpack_;
  Interleave interleave_;
  Turn turn_;
  Buffer<uint8_t> lines_;  // four rows of bytes
  Buffer<uint8_t> words_;  // 16 lines of words of four bytes
  Buffer<uint8_t> others_; // one of them, of the other phase
};

}  // namespace fourbit
