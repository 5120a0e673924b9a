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

template <bool kBiased, typename Sum>
void store_row(const Sum* sum, float scale, const float* bias, float* out, int cols) {
  for (int j = 0; j < cols; ++j) {
    const float product = static_cast<float>(sum[j]) * scale;
    out[j] = kBiased ? product + bias[j] : product;
  }
}

template <bool kBiased, typename Sum>
void store_rows(const Sum* sum, float scale, const float* bias, float* out, int64_t stride, int rows, int cols) {
  if (cols == kCols) {  // a constant count, for whole vectors
    for (int i = 0; i < rows; ++i, sum += kCols, out += stride) store_row<kBiased>(sum, scale, bias, out, kCols);
    return;
  }
  for (int i = 0; i < rows; ++i, sum += kCols, out += stride) store_row<kBiased>(sum, scale, bias, out, cols);
}

template <typename Sum>
void store(const Sum* sum, float scale, const float* bias, float* out, int64_t stride, int rows, int cols) {
  if (bias == nullptr) return store_rows<false>(sum, scale, bias, out, stride, rows, cols);
  float own[kCols];  // a copy, so that the compiler knows that `out` does not overlap it
  for (int j = 0; j < cols; ++j) own[j] = bias[j];
  store_rows<true>(sum, scale, own, out, stride, rows, cols);
}

}  // namespace

const TileKernels FOURBIT_TILE = {add64, store<int32_t>, store<int64_t>};

}  // namespace fourbit
