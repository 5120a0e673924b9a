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
        chunked_(g.steps > g.chunk),
        whole_(!chunked_ && is_one_dot(*g.a_planes, *g.b_planes, g.steps)),
        a_(g.a_planes->count * g.chunk * kStepA),
        b_(g.col_block * g.b_planes->count * g.chunk * kStepB),
        sums_(chunked_ ? g.row_block * g.col_block * kTile : 0),
        columns_(g.col_block * g.b_planes->count * kCols),
        starts_(g.col_block * kCols),
        places_(g.col_block) {
    for (int p = 0; p < g.a_planes->count; ++p) shifted_ = shifted_ || g.a_planes->plane[p].shift != 0;
    std::memset(columns_.data(), 0, g.col_block * g.b_planes->count * kCols * sizeof(int32_t));
    std::memset(starts_.data(), 0, g.col_block * kCols * sizeof(int32_t));
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
  // Whether a dot product is the sum: of one plane of a, and one of b or the two that `Dot` joins; and 32 bits are enough,
  // whatever happens on the way, since no |sum| is larger than the bound.
  static bool is_one_dot(const Planes& a, const Planes& b, int64_t steps) {
    if (a.count > 1 || a.plane[0].factor != 1 || b.count > 2 || b.plane[0].factor != 1) return false;
    if (b.count == 2 && b.plane[1].factor != 64) return false;
    return a.largest * b.largest < (int64_t{1} << 31) / std::max<int64_t>(1, 4 * steps);
  }

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
      if (whole_ && shifted_) correct_shift(col - col0);
    }
  }

  // The sums of a column of b, times the shift of a, are what the dot product has too much.
  void correct_shift(int64_t slot) {
    const uint32_t shift = static_cast<uint32_t>(g_.a_planes->plane[0].shift);
    const int32_t* columns = columns_.data() + slot * g_.b_planes->count * kCols;
    for (int64_t j = 0; j < kCols; ++j) {
      uint32_t sum = static_cast<uint32_t>(columns[j]);
      if (g_.b_planes->count > 1) sum += 64 * static_cast<uint32_t>(columns[kCols + j]);
      starts_.data()[slot * kCols + j] = static_cast<int32_t>(0 - shift * sum);
    }
  }

  // One tile of one chunk; `sums`: where chunks add up, nullptr if there is only one.
  void multiply(int64_t row, int64_t col, int64_t slot, int64_t steps, const uint8_t* const* a, int64_t* sums,
                bool last) {
    alignas(64) int32_t c[kTile];
    const int64_t a_count = g_.a_planes->count, b_count = g_.b_planes->count;
    const auto panel = [&](int64_t q) { return reinterpret_cast<const int8_t*>(panels_[slot * b_count + q]); };
    if (whole_) {
      dot_(a[0], panel(0), b_count > 1 ? panel(1) : nullptr, steps, starts_.data() + slot * kCols, c, kCols);
      return store(row, col, places_.data()[slot], c, nullptr);
    }
    alignas(64) int64_t sum64[kTile];
    if (sums == nullptr) sums = sum64, std::memset(sum64, 0, sizeof sum64);
    for (int64_t q = 0; q < b_count; ++q) {
      const int32_t* columns = columns_.data() + (slot * b_count + q) * kCols;
      for (int64_t p = 0; p < a_count; ++p) {
        const Plane &x = g_.a_planes->plane[p], &y = g_.b_planes->plane[q];
        dot_(a[p], panel(q), nullptr, steps, starts_.data() + slot * kCols, c, kCols);
        tile_.add64(c, columns, x.factor * y.factor, x.shift, sums);
      }
    }
    if (last) store(row, col, places_.data()[slot], nullptr, sums);
  }

  void store(int64_t row, int64_t col, const Place& place, const int32_t* sum32, const int64_t* sum64) {
    const int rows = static_cast<int>(std::min<int64_t>(kRows, g_.rows - row * kRows));
    const int cols = static_cast<int>(std::min<int64_t>(kCols, g_.cols - col * kCols));
    float* out = place.origin + row * kRows * place.row;
    if (place.column == 1) {
      return convert(sum32, sum64, g_.bias == nullptr ? nullptr : g_.bias + col * kCols, out, place.row, rows, cols);
    }
    convert(sum32, sum64, nullptr, dense_, kCols, rows, cols);
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

  void convert(const int32_t* sum32, const int64_t* sum64, const float* bias, float* out, int64_t stride, int rows,
               int cols) {
    if (sum32 != nullptr) {
      tile_.store32(sum32, g_.scale, bias, out, stride, rows, cols);
    } else {
      tile_.store64(sum64, g_.scale, bias, out, stride, rows, cols);
    }
  }

  const Gemm& g_;
  const Dot dot_;
  const ColumnSums column_sums_;
  const TileKernels& tile_;
  const Turn turn_;
  const bool chunked_, whole_;
  bool shifted_ = false;
  Buffer<uint8_t> a_, b_;
  Buffer<int64_t> sums_;
  Buffer<int32_t> columns_, starts_;  // sums of columns; where their dot products begin
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
