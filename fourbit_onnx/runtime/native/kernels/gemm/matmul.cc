#include "kernels/gemm/matmul.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/bytes/bytes.h"
#include "kernels/gemm/gemm.h"

namespace fourbit {
namespace {

// A stack of code matrices to be packed: `count` rows (of a) or columns (of b), of depth k each.
struct Matrices {
  const Operand& operand;
  int64_t batch, count, k;
  bool k_is_inner;  // stored [count, k], else [k, count]
};

// Panels first .. last of one matrix, [panel][plane][step][width][4], on the calling thread.
class Packer {
 public:
  Packer(const Matrices& m, const Planes& planes, int width, int64_t batch, int64_t first, int64_t last)
      : m_(m), planes_(planes), width_(width), batch_(batch), first_(first), last_(last), steps_(divide_up(m.k, 4)),
        plane_(steps_ * width * 4) {}

  int64_t bytes() const { return (last_ - first_) * planes_.count * plane_; }

  void run(uint8_t* out) const {
    if (steps_ == 0) return;
    if (m_.k_is_inner) {
      inner(out);
    } else {
      outer(out);
    }
  }

 private:
  // Vectors of k lie together: unpack `width` of them (and lines of zeros, to whole turns), then turn their quads.
  void inner(uint8_t* out) const {
    const Turn turn = best_turn();
    const int64_t line = 4 * steps_;
    Buffer<uint8_t> rows(divide_up(width_, kTurnLines) * kTurnLines * line + 64);
    std::memset(rows.data(), 0, divide_up(width_, kTurnLines) * kTurnLines * line);
    for (int64_t panel = first_; panel < last_; ++panel) {
      const int64_t count = std::min<int64_t>(width_, m_.count - panel * width_);
      if (count < width_) std::memset(rows.data() + count * line, 0, (width_ - count) * line);
      for (int p = 0; p < planes_.count; ++p, out += plane_) {
        for (int64_t i = 0; i < count; ++i) {
          unpack_(m_.operand, (batch_ * m_.count + panel * width_ + i) * m_.k, m_.k, planes_.plane[p],
                  rows.data() + i * line);
        }
        turn_panel(turn, rows.data(), line, steps_, width_, out);
      }
    }
  }

  // Rows of one k lie together: interleave four of them, into the same step of all panels.
  void outer(uint8_t* out) const {
    const Interleave interleave = best_interleave();
    const int64_t begin = first_ * width_, end = std::min(last_ * width_, m_.count);
    const int64_t line = (last_ - first_) * width_;
    Buffer<uint8_t> rows(4 * line);
    std::memset(rows.data(), 0, 4 * line);
    for (int64_t step = 0; step < steps_; ++step) {
      for (int p = 0; p < planes_.count; ++p) {
        for (int64_t j = 0; j < 4; ++j) {
          const int64_t k = 4 * step + j;
          uint8_t* const row = rows.data() + j * line;
          if (k < m_.k) {
            unpack_(m_.operand, (batch_ * m_.k + k) * m_.count + begin, end - begin, planes_.plane[p], row);
          } else {
            std::memset(row, 0, line);
          }
        }
        uint8_t* place = out + p * plane_ + step * width_ * 4;
        for (int64_t column = 0; column < line; column += width_, place += planes_.count * plane_) {
          const uint8_t* const four[] = {rows.data() + column, rows.data() + line + column,
                                         rows.data() + 2 * line + column, rows.data() + 3 * line + column};
          interleave(four, width_, place);
        }
      }
    }
  }

  const Matrices& m_;
  const Planes& planes_;
  const int64_t width_, batch_, first_, last_, steps_, plane_;
  const UnpackPlane unpack_;
};

// How many parts of the rows and of the columns are tasks of their own. A task packs what it multiplies: panels that the
// other core has just packed come slower than they are made. What is packed twice is weighed against uneven parts.
struct Grid {
  int64_t rows, cols;
};

Grid choose_grid(int64_t threads, int64_t row_panels, int64_t col_panels, int a_planes, int b_planes) {
  Grid best{1, 1};
  int64_t least = INT64_MAX;
  for (int64_t cols = 1; cols <= std::min(threads, col_panels); ++cols) {
    const Grid grid{std::min(divide_up(threads, cols), row_panels), cols};
    const int64_t rows_each = divide_up(row_panels, grid.rows), cols_each = divide_up(col_panels, cols);
    // Cycles a step: kRows for a dot product, about half a cycle a byte that is packed.
    const int64_t cost = rows_each * cols_each * a_planes * b_planes * kRows +
                         2 * (rows_each * a_planes * kRows + cols_each * b_planes * kCols);
    if (cost < least) least = cost, best = grid;
  }
  return best;
}

}  // namespace

void matmul(const MatMulShape& s, const Operand& a, const Operand& b, float scale, const float* bias, float* y,
            const Host& host) {
  // The narrower one goes to the unsigned side, where one plane and any zero point are free. A bias is of columns; forward
  // products, which alone have one, are of two narrow operands.
  const bool narrower = is_wide(a) != is_wide(b) ? is_wide(a) : b.zero_point != 0 && a.zero_point == 0;
  const bool swap = narrower && bias == nullptr;
  const Operand &left = swap ? b : a, &right = swap ? a : b;
  const Matrices rows = swap ? Matrices{b, s.batch, s.n, s.k, s.trans_b} : Matrices{a, s.batch, s.m, s.k, !s.trans_a};
  const Matrices cols = swap ? Matrices{a, s.batch, s.m, s.k, !s.trans_a} : Matrices{b, s.batch, s.n, s.k, s.trans_b};

  const Planes a_planes = unsigned_planes(left, false);
  const Planes b_planes = signed_planes(right);
  const int64_t steps = divide_up(s.k, 4);
  const int64_t row_panels = divide_up(rows.count, kRows), col_panels = divide_up(cols.count, kCols);
  const int64_t row_distance = swap ? 1 : s.n, col_distance = swap ? s.n : 1;
  const int64_t threads = host.threads();
  const bool even = s.batch % threads == 0 || s.batch >= 8 * threads;  // a matrix a task will do
  const Grid grid = choose_grid(even ? 1 : threads, row_panels, col_panels, a_planes.count, b_planes.count);
  parallel_ranges(host, s.batch * grid.rows * grid.cols, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t batch = task / (grid.rows * grid.cols), i = task / grid.cols % grid.rows, j = task % grid.cols;
      const int64_t row0 = row_panels * i / grid.rows, row1 = row_panels * (i + 1) / grid.rows;
      const int64_t col0 = col_panels * j / grid.cols, col1 = col_panels * (j + 1) / grid.cols;
      const Packer row_packer(rows, a_planes, kRows, batch, row0, row1);
      const Packer col_packer(cols, b_planes, kCols, batch, col0, col1);
      Buffer<uint8_t> a_packed(row_packer.bytes()), b_packed(col_packer.bytes());
      row_packer.run(a_packed.data());
      col_packer.run(b_packed.data());
      const Packed a_side(a_packed.data(), 1, row1 - row0, a_planes.count, steps, kStepA);
      const Packed b_side(b_packed.data(), 1, col1 - col0, b_planes.count, steps, kStepB);
      float* const corner = y + batch * s.m * s.n + row0 * kRows * row_distance + col0 * kCols * col_distance;
      const StridedOutput out(corner, 0, row_distance, col_distance);
      gemm({1, std::min(row1 * kRows, rows.count) - row0 * kRows, std::min(col1 * kCols, cols.count) - col0 * kCols,
            steps, kMaxSteps, row1 - row0, 4, &a_planes, &b_planes, &a_side, &b_side, scale, &out,
            bias == nullptr ? nullptr : bias + col0 * kCols},
           Alone());
    }
  });
}

}  // namespace fourbit
