// Transformed weights, as panels for `dot8` and `dot16`.
#pragma once

#include <cstdint>

#include "kernels/dot/dot.h"
#include "kernels/gemm/matmul.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {

// Weights [filters][channels][3][3] of codes. Forward, columns of a panel are kCols filters, and k runs over channels
// in 8 bits; for the gradient to the input, columns are channels, k runs over filters in 16 bits, and the taps are
// turned round.
//
//   panel[point][step][column][4 bytes]
class Panels {
 public:
  enum class Use { forward, backward };

  Panels(const Operand& w, int64_t filters, int64_t channels, Use use);

  int64_t count() const { return divide_up(columns_, int64_t{kCols}); }
  int64_t steps() const { return divide_up(k_ * (use_ == Use::forward ? 1 : 2), 4); }
  // A step more than there is, or all sixteen points would want the same lines of the cache.
  int64_t point_bytes() const { return (steps() + 1) * kCols * 4; }
  int64_t bytes() const { return kPoints * point_bytes(); }

  // One panel, and `starts` [point][column]: what corrects the shift of the inputs, -kInputShift * sum over k (backward:
  // 0, they are not shifted).
  void make(int64_t panel, uint8_t* to, int32_t* starts) const;

 private:
  void make_forward(int64_t panel, uint8_t* to, int32_t* starts) const;
  void make_backward(int64_t panel, uint8_t* to) const;

  const WinogradKernels& kernels_;
  const Use use_;
  const int64_t columns_, k_, channels_;
  const uint8_t* const codes_;
  uint8_t table_[16];  // of their values
};

}  // namespace fourbit
