// Where the codes of a logarithmic format begin. Rounded quotients rise with x, so to compare the bits of |x| is to compare
// |x| / scale, without a division.
#pragma once

#include <cstdint>

namespace fourbit {

class LogEdges {
 public:
  // Of seven thresholds: the first, and each one octave, or two, above the one before.
  LogEdges(float scale, float threshold, int octaves);

  uint32_t first() const { return edges_[0]; }
  int shift() const { return shift_; }
  // Whether the finite ones are first() + (k << shift()): so it is unless they or their quotients are the smallest or largest
  // numbers that there are.
  bool even() const { return even_; }

  // Codes and result of `ElementKernels::quantize_log`, by any edges.
  uint32_t quantize(const float* x, int64_t n, uint8_t* codes) const;

 private:
  uint32_t edges_[7];  // the bits of the smallest x whose quotient is above the threshold, or those of infinity
  const int shift_;
  bool even_ = true;
};

}  // namespace fourbit
