// The reference. Read this one to know what the others do.
#include "kernels/dot/dot.h"

namespace fourbit {

void dot_scalar(const uint8_t* a, const int8_t* b, const int8_t* high, int64_t steps, const int32_t* start, int32_t* c,
                int64_t ldc) {
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kCols; ++j) {
      uint32_t sum = static_cast<uint32_t>(start[j]);
      for (int64_t k = 0; k < 4 * steps; ++k) {
        const int64_t at = (k / 4 * kCols + j) * 4 + k % 4;
        const int32_t value = b[at] + (high != nullptr ? 64 * high[at] : 0);
        sum += static_cast<uint32_t>(a[(k / 4 * kRows + i) * 4 + k % 4] * value);
      }
      c[i * ldc + j] = static_cast<int32_t>(sum);
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
