// Included once by each instruction set's file, which defines FOURBIT_TILE and has its own flags:
// simple loops, that the compiler turns into that set's vectors. Everything here has internal
// linkage and calls nothing of the C++ library: a shared inline function would be compiled once
// for all, perhaps with instructions that the CPU lacks.
#include "kernels/tile/tile.h"

namespace fourbit {
namespace {

void add64(const int32_t* c, const int32_t* column, int64_t factor, int64_t shift, int64_t* sum) {
  for (int i = 0; i < kRows; ++i, c += kCols, sum += kCols) {
    for (int j = 0; j < kCols; ++j) sum[j] += factor * (c[j] - shift * column[j]);
  }
}

template <typename Sum>
void store(const Sum* sum, float scale, float* out, int64_t stride, int rows, int cols) {
  if (cols == kCols) {  // a constant count, for whole vectors
    for (int i = 0; i < rows; ++i, sum += kCols, out += stride) {
      for (int j = 0; j < kCols; ++j) out[j] = static_cast<float>(sum[j]) * scale;
    }
    return;
  }
  for (int i = 0; i < rows; ++i, sum += kCols, out += stride) {
    for (int j = 0; j < cols; ++j) out[j] = static_cast<float>(sum[j]) * scale;
  }
}

}  // namespace

const TileKernels FOURBIT_TILE = {add64, store<int32_t>, store<int64_t>};

}  // namespace fourbit
