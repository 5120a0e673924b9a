#include "kernels/blocks/product.h"

#include <algorithm>
#include <cstring>

#include "kernels/blocks/blocks.h"
#include "kernels/bytes/bytes.h"
#include "kernels/dot/dot.h"

namespace fourbit {
namespace {

constexpr int kShift = 16;  // makes values of a unsigned for `Dot`

// One side, packed: [batch][panel][block][step][width][4] bytes, and [batch][panel][block][width] scales.
struct Packed {
  uint8_t* bytes;
  double* scales;
};

void pack(const BlockProduct& s, const BlockOperand& x, int width, int shift, const Packed& out, const Host& host) {
  const Unpack unpack = best_unpack();
  const int64_t blocks = divide_up(s.k, s.size), steps = divide_up(s.size, 4), panels = divide_up(x.count, width);
  const int64_t depth = blocks * steps * 4;
  uint8_t table[16];
  for (int i = 0; i < 16; ++i) table[i] = static_cast<uint8_t>(x.values[i] + shift);
  parallel_ranges(host, s.batch * panels, [&](int64_t first, int64_t last) {
    Buffer<uint8_t> rows(width * depth);
    for (int64_t task = first; task < last; ++task) {
      const int64_t batch = task / panels, at = task % panels * width;
      const int64_t here = std::min<int64_t>(width, x.count - at);
      std::memset(rows.data(), 0, width * depth);
      double* scales = out.scales + task * blocks * width;
      std::fill(scales, scales + blocks * width, 0.0);
      for (int64_t i = 0; i < here; ++i) {
        const int64_t row = batch * x.count + at + i;
        uint8_t* to = rows.data() + i * depth;
        if (s.size % 4 == 0) {
          unpack(x.codes, row * s.k, s.k, table, to);
        } else {
          for (int64_t k = 0; k < s.k; k += s.size, to += steps * 4) {
            unpack(x.codes, row * s.k + k, std::min(s.size, s.k - k), table, to);
          }
        }
        for (int64_t block = 0; block < blocks; ++block) scales[block * width + i] = x.scales[row * blocks + block];
      }
      uint8_t* to = out.bytes + task * width * depth;
      for (int64_t step = 0; step < blocks * steps; ++step) {
        for (int i = 0; i < width; ++i, to += 4) std::memcpy(to, rows.data() + i * depth + step * 4, 4);
      }
    }
  });
}

}  // namespace

void block_matmul(const BlockProduct& s, const BlockOperand& a, const BlockOperand& b, float* y, const Host& host) {
  const BlockKernels& kernels = best_blocks();
  const Dot dot = best_dot();
  const ColumnSums column_sums = best_column_sums();
  const int64_t blocks = divide_up(s.k, s.size), steps = divide_up(s.size, 4);
  const int64_t row_panels = divide_up(a.count, kRows), col_panels = divide_up(b.count, kCols);
  Buffer<uint8_t> a_bytes(s.batch * row_panels * blocks * steps * 4 * kRows);
  Buffer<uint8_t> b_bytes(s.batch * col_panels * blocks * steps * 4 * kCols);
  Buffer<double> a_scales(s.batch * row_panels * blocks * kRows);
  Buffer<double> b_scales(s.batch * col_panels * blocks * kCols);
  Buffer<int32_t> starts(s.batch * col_panels * blocks * kCols);
  pack(s, a, kRows, kShift, {a_bytes.data(), a_scales.data()}, host);
  pack(s, b, kCols, 0, {b_bytes.data(), b_scales.data()}, host);
  parallel_ranges(host, s.batch * col_panels * blocks, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      int32_t* sums = starts.data() + i * kCols;
      column_sums(reinterpret_cast<const int8_t*>(b_bytes.data()) + i * steps * 4 * kCols, steps, sums);
      for (int j = 0; j < kCols; ++j) sums[j] *= -kShift;
    }
  });

  const int64_t chunk = kExactTerms / s.size;
  parallel_ranges(host, s.batch * row_panels * col_panels, [&](int64_t first, int64_t last) {
    int32_t tile[kRows * kCols];
    double sums[kRows * kCols];
    int64_t totals[kRows * kCols];
    for (int64_t task = first; task < last; ++task) {
      const int64_t batch = task / (row_panels * col_panels), panel = task % (row_panels * col_panels);
      const int64_t row = panel / col_panels, col = panel % col_panels;
      const int64_t left = (batch * row_panels + row) * blocks, right = (batch * col_panels + col) * blocks;
      std::fill(totals, totals + kRows * kCols, int64_t{0});
      for (int64_t from = 0; from < blocks; from += chunk) {
        std::fill(sums, sums + kRows * kCols, 0.0);
        for (int64_t block = from; block < std::min(blocks, from + chunk); ++block) {
          dot(a_bytes.data() + (left + block) * steps * 4 * kRows,
              reinterpret_cast<const int8_t*>(b_bytes.data()) + (right + block) * steps * 4 * kCols, nullptr, steps,
              starts.data() + (right + block) * kCols, tile, kCols);
          kernels.accumulate(tile, a_scales.data() + (left + block) * kRows, b_scales.data() + (right + block) * kCols,
                             sums);
        }
        for (int i = 0; i < kRows * kCols; ++i) totals[i] += static_cast<int64_t>(sums[i]);
      }
      for (int64_t i = 0; i < std::min<int64_t>(kRows, a.count - row * kRows); ++i) {
        float* to = y + (batch * a.count + row * kRows + i) * b.count + col * kCols;
        const int64_t here = std::min<int64_t>(kCols, b.count - col * kCols);
        for (int64_t j = 0; j < here; ++j) {
          // One after the other: the product of the two scales may underflow.
          to[j] = static_cast<float>(totals[i * kCols + j]) * a.scale * b.scale;
        }
      }
    }
  });
}

}  // namespace fourbit
