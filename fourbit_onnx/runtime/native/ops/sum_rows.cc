#include "kernels/sum_rows/sum_rows.h"

#include <algorithm>

#include "ops/layers.h"

namespace fourbit {

void SumRows::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const int64_t axis = axis_ < 0 ? axis_ + x.rank() : axis_;
  if (x.count() == 0 || axis < 0 || axis > x.rank()) {
    throw Refused("x must have elements and an axis " + std::to_string(axis_) + "; its shape is " + text(x.shape()));
  }
  const Shape row_shape(x.shape().begin() + axis, x.shape().end());
  float* to = context.output(0, row_shape).data<float>();
  int64_t n = 1;
  for (const int64_t size : row_shape) n *= size;
  const int64_t rows = x.count() / n;

  // Tasks of kSummedRows rows and kSummedColumns columns; their sums are the rows that the rest of the tree adds.
  const SumRowsKernels& k = best_sum_rows();
  const int64_t parts = divide_up(n, kSummedColumns), blocks = divide_up(rows, kSummedRows);
  const Buffer<float> sums(n * blocks);
  const int64_t narrow = std::max<int64_t>(1, kSummedColumns / n);  // so many are as much as one wide task
  parallel_blocks(context, blocks * parts, narrow, [&](int64_t first, int64_t count) {
    const Buffer<float> scratch(kSumRowsScratch);
    for (int64_t task = first; task < first + count; ++task) {
      const int64_t block = task / parts, row = block * kSummedRows, column = task % parts * kSummedColumns;
      k.sum(x.data<float>() + row * n + column, std::min(kSummedRows, rows - row), std::min(kSummedColumns, n - column),
            n, scratch.data(), sums.data() + block * n + column);
    }
  });
  k.pairs(sums.data(), blocks, n);
  std::copy_n(sums.data(), n, to);
}

}  // namespace fourbit
