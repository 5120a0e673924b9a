#include "kernels/gemm/gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/bytes/bytes.h"
#include "kernels/tile/tile.h"

namespace fourbit {
namespace {

// The part of one thread's range of tasks: scratch memory and the functions in use.
class Worker {
 public:
  explicit Worker(const Gemm& g)
      : g_(g),
        dot_(best_dot()),
        column_sums_(best_column_sums()),
        tile_(best_tile()),
        turn_(best_turn()),
        // Every |sum| is at most this; then 32 bits are enough, whatever happens on the way.
        narrow_(g.a_planes->largest * g.b_planes->largest < (int64_t{1} << 31) / std::max<int64_t>(1, 4 * g.steps)),
        chunked_(g.steps > g.chunk),
        a_(g.a_planes->count * g.chunk * kStepA),
        b_(g.col_block * g.b_planes->count * g.chunk * kStepB),
        sums_(chunked_ ? g.row_block * g.col_block * kTile : 0),
        columns_(g.col_block * g.b_planes->count * kCols),
        places_(g.col_block) {
    for (int p = 0; p < g.a_planes->count; ++p) shifted_ = shifted_ || g.a_planes->plane[p].shift != 0;
    std::memset(columns_.data(), 0, g.col_block * g.b_planes->count * kCols * sizeof(int32_t));
  }

  void run(int64_t problem, int64_t row0, int64_t col0) {
    const int64_t row1 = std::min(row0 + g_.row_block, divide_up(g_.rows, kRows));
    const int64_t col1 = std::min(col0 + g_.col_block, divide_up(g_.cols, kCols));
    if (chunked_) std::memset(sums_.data(), 0, g_.row_block * g_.col_block * kTile * sizeof(int64_t));
    for (int64_t first = 0; first == 0 || first < g_.steps; first += g_.chunk) {
      const int64_t steps = std::min(g_.chunk, g_.steps - first);
      pack_columns(problem, col0, col1, first, steps);
      for (int64_t row = row0; row < row1; ++row) {
        const uint8_t* a[kMaxPlanes];
        for (int p = 0; p < g_.a_planes->count; ++p) {
          a[p] = g_.a->panel(problem, row, p, first, steps, a_.data() + p * g_.chunk * kStepA);
        }
        for (int64_t col = col0; col < col1; ++col) {
          const int64_t tile = (row - row0) * g_.col_block + (col - col0);
          const bool last = first + steps >= g_.steps;
          multiply(row, col, col - col0, steps, a, chunked_ ? sums_.data() + tile * kTile : nullptr, last);
        }
      }
    }
  }

  static constexpr int64_t kPanels = 64;  // the most panels of columns a task may hold

 private:
  void pack_columns(int64_t problem, int64_t col0, int64_t col1, int64_t first, int64_t steps) {
    for (int64_t col = col0; col < col1; ++col) {
      if (first == 0) g_.out->columns(problem, col, places_.data()[col - col0]);
      for (int p = 0; p < g_.b_planes->count; ++p) {
        const int64_t slot = (col - col0) * g_.b_planes->count + p;
        panels_[slot] = g_.b->panel(problem, col, p, first, steps, b_.data() + slot * g_.chunk * kStepB);
        if (shifted_) {
          column_sums_(reinterpret_cast<const int8_t*>(panels_[slot]), steps, columns_.data() + slot * kCols);
        }
      }
    }
  }

  // One tile of one chunk; `sums`: where chunks add up, nullptr if there is only one.
  void multiply(int64_t row, int64_t col, int64_t slot, int64_t steps, const uint8_t* const* a, int64_t* sums,
                bool last) {
    alignas(64) int32_t c[kTile];
    alignas(64) int32_t sum32[kTile];
    alignas(64) int64_t sum64[kTile];
    const bool narrow = narrow_ && sums == nullptr;
    if (sums == nullptr) sums = sum64;
    const int64_t a_count = g_.a_planes->count, b_count = g_.b_planes->count;
    bool plain = false;  // one product that needs neither factor nor correction
    if (narrow) {
      plain = a_count * b_count == 1 && !shifted_ && g_.a_planes->plane[0].factor * g_.b_planes->plane[0].factor == 1;
    } else if (sums == sum64) {
      std::memset(sum64, 0, sizeof sum64);
    }
    for (int q = 0; q < b_count; ++q) {
      const int64_t index = slot * b_count + q;
      const int32_t* columns = columns_.data() + index * kCols;
      for (int p = 0; p < a_count; ++p) {
        const Plane &x = g_.a_planes->plane[p], &y = g_.b_planes->plane[q];
        dot_(a[p], reinterpret_cast<const int8_t*>(panels_[index]), steps, plain ? sum32 : c, kCols);
        if (plain) continue;
        const int64_t factor = x.factor * y.factor;
        if (narrow) {
          const auto put = p + q == 0 ? tile_.set32 : tile_.add32;
          put(c, columns, static_cast<int32_t>(factor), static_cast<int32_t>(x.shift), sum32);
        } else {
          tile_.add64(c, columns, factor, x.shift, sums);
        }
      }
    }
    if (last) store(row, col, places_.data()[slot], narrow ? sum32 : nullptr, sums);
  }

  void store(int64_t row, int64_t col, const Place& place, const int32_t* sum32, const int64_t* sum64) {
    const int rows = static_cast<int>(std::min<int64_t>(kRows, g_.rows - row * kRows));
    const int cols = static_cast<int>(std::min<int64_t>(kCols, g_.cols - col * kCols));
    float* out = place.origin + row * kRows * place.row;
    if (place.column == 1) return convert(sum32, sum64, out, place.row, rows, cols);
    convert(sum32, sum64, dense_, kCols, rows, cols);
    if (place.column != 0) {  // transposed: the distance of rows is 1
      alignas(64) float turned[kCols][kTurnLines];
      turn_(reinterpret_cast<const uint8_t*>(dense_), kCols * sizeof(float), cols,
            reinterpret_cast<uint8_t*>(turned), sizeof turned[0]);
      for (int j = 0; j < cols; ++j) {
        if (rows == kRows) {
          std::memcpy(out + j * place.column, turned[j], kRows * sizeof(float));  // a constant: moves, no call
        } else {
          std::memcpy(out + j * place.column, turned[j], rows * sizeof(float));
        }
      }
      return;
    }
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < cols; ++j) out[i * place.row + place.offset[j]] = dense_[i * kCols + j];
    }
  }

  void convert(const int32_t* sum32, const int64_t* sum64, float* out, int64_t stride, int rows, int cols) {
    if (sum32 != nullptr) {
      tile_.store32(sum32, g_.scale, out, stride, rows, cols);
    } else {
      tile_.store64(sum64, g_.scale, out, stride, rows, cols);
    }
  }

  const Gemm& g_;
  const Dot dot_;
  const ColumnSums column_sums_;
  const TileKernels& tile_;
  const Turn turn_;
  const bool narrow_, chunked_;
  bool shifted_ = false;
  Buffer<uint8_t> a_, b_;
  Buffer<int64_t> sums_;
  Buffer<int32_t> columns_;
  Buffer<Place> places_;
  const uint8_t* panels_[kPanels * kMaxPlanes];
  alignas(64) float dense_[kTurnLines * kCols] = {};  // a tile, filled up with zeros to be turned
};

}  // namespace

void gemm(const Gemm& gemm, const Host& host) {
  Gemm g = gemm;
  if (g.problems == 0 || g.rows == 0 || g.cols == 0) return;
  g.chunk = std::max<int64_t>(1, std::min({g.chunk, g.steps, kMaxSteps}));
  g.row_block = std::min(g.row_block, divide_up(g.rows, kRows));
  g.col_block = std::min({g.col_block, divide_up(g.cols, kCols), Worker::kPanels});
  const int64_t row_blocks = divide_up(divide_up(g.rows, kRows), g.row_block);
  const int64_t col_blocks = divide_up(divide_up(g.cols, kCols), g.col_block);
  parallel_ranges(host, g.problems * row_blocks * col_blocks, [&](int64_t first, int64_t last) {
    Worker worker(g);
    for (int64_t task = first; task < last; ++task) {
      const int64_t row = task / col_blocks % row_blocks, col = task % col_blocks;
      worker.run(task / (row_blocks * col_blocks), row * g.row_block, col * g.col_block);
    }
  });
}

}  // namespace fourbit
