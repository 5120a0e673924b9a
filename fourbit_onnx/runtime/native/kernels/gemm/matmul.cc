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
  const uint8_t* codes;
  int64_t batch, count, k;
  bool k_is_inner;  // stored [count, k], else [k, count]
};

constexpr int64_t kLines = 16;  // turned at once

// Vectors of k lie together: unpack `width` of them (and lines of zeros, to whole turns), then turn their quads.
void pack_inner(const Matrices& m, const Plane& plane, int64_t batch, int64_t panel, int width, uint8_t* rows,
                uint8_t* out) {
  const Unpack unpack = best_unpack();
  const Turn turn = best_turn();
  const int64_t steps = divide_up(m.k, 4), line = 4 * steps;
  if (steps == 0) return;
  std::memset(rows, 0, divide_up(width, kLines) * kLines * line);
  for (int64_t i = 0; i < std::min<int64_t>(width, m.count - panel * width); ++i) {
    unpack(m.codes, (batch * m.count + panel * width + i) * m.k, m.k, plane.table, rows + i * line);
  }
  for (int64_t i = 0; i < width; i += kLines) {
    // A turned step is 64 bytes. Where a panel is narrower, the next step overwrites what is too much; the last one
    // would reach into another panel, which another thread may have written.
    const bool narrow = width - i < kLines;
    turn(rows + i * line, line, narrow ? steps - 1 : steps, out + 4 * i, 4 * width);
    if (!narrow) continue;
    for (int64_t j = i; j < width; ++j) std::memcpy(out + (steps - 1) * 4 * width + 4 * j, rows + j * line + line - 4, 4);
  }
}

// Rows of one k lie together: interleave four of them, into the same step of all panels.
void pack_outer(const Matrices& m, const Plane& plane, int64_t batch, int64_t step, int width, int64_t panel_bytes,
                uint8_t* rows, uint8_t* out) {
  const Unpack unpack = best_unpack();
  const Interleave interleave = best_interleave();
  const int64_t panels = divide_up(m.count, width);
  std::memset(rows, 0, 4 * panels * width);
  const uint8_t* row[4];
  for (int j = 0; j < 4; ++j) {
    uint8_t* bytes = rows + j * panels * width;
    row[j] = bytes;
    const int64_t k = 4 * step + j;
    if (k < m.k) unpack(m.codes, (batch * m.k + k) * m.count, m.count, plane.table, bytes);
  }
  for (int64_t panel = 0; panel < panels; ++panel) {
    interleave(row, width, out + panel * panel_bytes);
    for (const uint8_t*& r : row) r += width;
  }
}

// [batch][panel][plane][step][width][4]
void pack(const Matrices& m, const Planes& planes, int width, uint8_t* out, const Host& host) {
  const int64_t panels = divide_up(m.count, width), steps = divide_up(m.k, 4), plane_bytes = steps * width * 4;
  const int64_t parts = m.k_is_inner ? panels : steps;
  parallel_ranges(host, m.batch * parts, [&](int64_t first, int64_t last) {
    Buffer<uint8_t> rows(m.k_is_inner ? divide_up(width, kLines) * kLines * steps * 4 + 64 : 4 * panels * width);
    for (int64_t task = first; task < last; ++task) {
      const int64_t batch = task / parts, part = task % parts;
      for (int p = 0; p < planes.count; ++p) {
        uint8_t* place = out + (batch * panels * planes.count + p) * plane_bytes;
        if (m.k_is_inner) {
          place += part * planes.count * plane_bytes;
          pack_inner(m, planes.plane[p], batch, part, width, rows.data(), place);
        } else {
          place += part * width * 4;
          pack_outer(m, planes.plane[p], batch, part, width, planes.count * plane_bytes, rows.data(), place);
        }
      }
    }
  });
}

bool is_wide(const Operand& x) { return signed_planes(x.values, 0).count > 1; }

}  // namespace

int64_t largest(const Operand& x) {
  int64_t most = 0;
  for (const int64_t value : x.values) most = std::max(most, std::abs(value - x.zero_point));
  return most;
}

void matmul(const MatMulShape& s, const Operand& a, const Operand& b, float scale, float* y, const Host& host) {
  // The narrower one goes to the unsigned side, where one plane and any zero point are free.
  const bool swap = is_wide(a) != is_wide(b) ? is_wide(a) : b.zero_point != 0 && a.zero_point == 0;
  const Operand &left = swap ? b : a, &right = swap ? a : b;
  const Matrices rows = swap ? Matrices{b.codes, s.batch, s.n, s.k, s.trans_b} : Matrices{a.codes, s.batch, s.m, s.k, !s.trans_a};
  const Matrices cols = swap ? Matrices{a.codes, s.batch, s.m, s.k, !s.trans_a} : Matrices{b.codes, s.batch, s.n, s.k, s.trans_b};

  const Planes a_planes = unsigned_planes(left.values, left.zero_point, false);
  const Planes b_planes = signed_planes(right.values, right.zero_point);
  const int64_t steps = divide_up(s.k, 4);
  const int64_t row_panels = divide_up(rows.count, kRows), col_panels = divide_up(cols.count, kCols);
  Buffer<uint8_t> a_packed(s.batch * row_panels * a_planes.count * steps * kStepA);
  Buffer<uint8_t> b_packed(s.batch * col_panels * b_planes.count * steps * kStepB);
  pack(rows, a_planes, kRows, a_packed.data(), host);
  pack(cols, b_planes, kCols, b_packed.data(), host);

  const Packed a_side(a_packed.data(), s.batch, row_panels, a_planes.count, steps, kStepA);
  const Packed b_side(b_packed.data(), s.batch, col_panels, b_planes.count, steps, kStepB);
  const StridedOutput out(y, s.m * s.n, swap ? 1 : s.n, swap ? s.n : 1);
  Gemm g{s.batch, rows.count, cols.count, steps, kMaxSteps, 8, 4, &a_planes, &b_planes, &a_side, &b_side, scale, &out};
  // Smaller blocks where there would be too few tasks to share.
  while (g.row_block > 1 && s.batch * divide_up(row_panels, g.row_block) * divide_up(col_panels, g.col_block) < 16) {
    g.row_block /= 2;
  }
  gemm(g, host);
}

}  // namespace fourbit
