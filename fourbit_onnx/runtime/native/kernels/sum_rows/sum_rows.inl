// Included once by each instruction set's file, which defines FOURBIT_SUM_ROWS and has its own flags: simple loops,
// that the compiler turns into that set's vectors. Everything here has internal linkage and calls nothing of the C++
// library (see kernels/elements/elements.inl).
#include "kernels/sum_rows/sum_rows.h"
#include "kernels/tree_sums.inl"

namespace fourbit {
namespace {

// Three rounds of pairs in registers.
void eight_rows(const float* x, int64_t stride, int64_t columns, float* __restrict to) {
  const float *a = x, *b = a + stride, *c = b + stride, *d = c + stride;
  const float *e = d + stride, *f = e + stride, *g = f + stride, *h = g + stride;
  for (int64_t i = 0; i < columns; ++i) {
    to[i] = ((a[i] + b[i]) + (c[i] + d[i])) + ((e[i] + f[i]) + (g[i] + h[i]));
  }
}

void sum(const float* x, int64_t rows, int64_t columns, int64_t stride, float* scratch, float* sum) {
  const size_t bytes = static_cast<size_t>(columns) * sizeof(float);
  float* to = scratch;
  int64_t row = 0;
  for (; row + 8 <= rows; row += 8, to += columns) eight_rows(x + row * stride, stride, columns, to);
  const int64_t eights = (rows + 7) / 8, left = rows - row;
  for (int64_t i = 0; i < left; ++i) __builtin_memcpy(to + i * columns, x + (row + i) * stride, bytes);
  if (left > 0) pairs(to, left, columns);
  pairs(scratch, eights, columns);
  __builtin_memcpy(sum, scratch, bytes);
}

}  // namespace

const SumRowsKernels FOURBIT_SUM_ROWS = {sum, pairs};

}  // namespace fourbit
