// The blocked product, in terms of operands that hand out panels.
//
//   out[p][i][j] = float(sum over k of a[p][i][k] * b[p][k][j]) * scale + bias[j]
//
// p: problem (a batch entry, a group, an image of a group). Sums are exact integers: no result
// depends on blocking, threads or instruction set.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/dot/dot.h"
#include "kernels/gemm/planes.h"

namespace fourbit {

constexpr int64_t kStepA = kRows * 4;  // bytes of a panel of a, one step of four k
constexpr int64_t kStepB = kCols * 4;

// One operand. A panel is kRows rows of a, or kCols columns of b, laid out for `Dot`.
class Side {
 public:
  virtual ~Side() = default;
  // Steps first .. first + steps of a panel: in place, or packed into scratch (which has room).
  // Rows or columns past the end may hold anything (a) or must be 0 (b).
  virtual const uint8_t* panel(int64_t problem, int64_t panel, int plane, int64_t first, int64_t steps,
                               uint8_t* scratch) const = 0;
};

// Panels packed beforehand: [problem % problems][panel][plane][step].
class Packed final : public Side {
 public:
  Packed(const uint8_t* data, int64_t problems, int64_t panels, int planes, int64_t steps, int64_t step_bytes)
      : data_(data), problems_(problems), panels_(panels), planes_(planes), steps_(steps), bytes_(step_bytes) {}
  const uint8_t* panel(int64_t problem, int64_t panel, int plane, int64_t first, int64_t,
                       uint8_t*) const override {
    const int64_t index = ((problem % problems_) * panels_ + panel) * planes_ + plane;
    return data_ + (index * steps_ + first) * bytes_;
  }

 private:
  const uint8_t* data_;
  int64_t problems_, panels_, planes_, steps_, bytes_;
};

// Where the results go: element (i, j) of a panel of columns is origin[i * row + offset(j)].
struct Place {
  float* origin;
  int64_t row;             // distance of two rows
  int64_t column;          // distance of two columns: 1, any if `row` is 1, or 0: see offset
  int64_t offset[kCols];   // else
};

class Output {
 public:
  virtual ~Output() = default;
  virtual void columns(int64_t problem, int64_t panel, Place& place) const = 0;
};

// origin = base + problem * matrix + panel * kCols * column
class StridedOutput final : public Output {
 public:
  StridedOutput(float* base, int64_t matrix, int64_t row, int64_t column)
      : base_(base), matrix_(matrix), row_(row), column_(column) {}
  void columns(int64_t problem, int64_t panel, Place& place) const override {
    place.origin = base_ + problem * matrix_ + panel * kCols * column_;
    place.row = row_;
    place.column = column_;
  }

 private:
  float* base_;
  int64_t matrix_, row_, column_;
};

struct Gemm {
  int64_t problems, rows, cols, steps;  // a step is four k
  int64_t chunk;                        // steps packed at once, at most kMaxSteps
  int64_t row_block, col_block;         // panels a task: the unit of packing and of parallelism
  const Planes* a_planes;
  const Planes* b_planes;
  const Side* a;
  const Side* b;
  float scale;
  const Output* out;
  const float* bias = nullptr;          // of the columns, which then are one apart in `out`; or none
};

void gemm(const Gemm& g, const Host& host);

}  // namespace fourbit
