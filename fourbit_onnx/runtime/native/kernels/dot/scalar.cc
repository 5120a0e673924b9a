// The reference. Read this one to know what the others do.
#include "kernels/dot/dot.h"

namespace fourbit {

void dot_scalar(const uint8_t* a, const int8_t* b, int64_t steps, int32_t* c, int64_t ldc) {
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kCols; ++j) {
      int32_t sum = 0;
      for (int64_t k = 0; k < 4 * steps; ++k) {
        sum += a[(k / 4 * kRows + i) * 4 + k % 4] * b[(k / 4 * kCols + j) * 4 + k % 4];
      }
      c[i * ldc + j] = sum;
    }
  }
}

void column_sums_scalar(const int8_t* b, int64_t steps, int32_t* sums) {
  for (int j = 0; j < kCols; ++j) {
    sums[j] = 0;
    for (int64_t k = 0; k < 4 * steps; ++k) sums[j] += b[(k / 4 * kCols + j) * 4 + k % 4];
  }
}

}  // namespace fourbit
