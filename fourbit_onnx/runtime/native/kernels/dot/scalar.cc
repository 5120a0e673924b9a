#include "kernels/dot/dot.h"
#include "kernels/dot/portable.h"

namespace fourbit {

void dot_scalar(const uint8_t* a, const int8_t* b, const int8_t* high, int64_t steps, const int32_t* start, int32_t* c,
                int64_t ldc) {
  const auto* low_bytes = reinterpret_cast<const uint8_t*>(b);
  const auto* high_bytes = reinterpret_cast<const uint8_t*>(high);
  for (int j = 0; j < kCols; j += kBlockCols) {
    for (int i = 0; i < kRows; i += Block::kHeight) {
      Block block;
      if (high != nullptr) {
        block.add<RowQuads, Quads>(a + 4 * i, 4, 4 * kRows, high_bytes + 4 * j, 4 * kCols, steps);
        for (auto& row : block.sums) {
          for (Sums& sums : row) sums <<= 6;
        }
      }
      block.load(start + j, 0);
      block.add<RowQuads, Quads>(a + 4 * i, 4, 4 * kRows, low_bytes + 4 * j, 4 * kCols, steps);
      block.store(c + i * ldc + j, ldc);
    }
  }
}

void column_sums_scalar(const int8_t* b, int64_t steps, int32_t* sums) {
  const RowQuads ones(Words{} + 0x01010101);
  for (int j = 0; j < kCols; j += kPortableCols) {
    Sums sum = {};
    for (int64_t s = 0; s < steps; ++s) sum = add_products(sum, ones, 0, Quads(b + (s * kCols + j) * 4));
    store_columns(sum, sums + j);
  }
}

}  // namespace fourbit
