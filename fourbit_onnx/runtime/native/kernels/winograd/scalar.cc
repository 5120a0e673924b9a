#include "kernels/bytes/bytes.h"
#include "kernels/dot/portable.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

template <typename Row, typename Columns>
void dot(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t steps, const int32_t* start,
         int64_t start_row, int32_t* c, int64_t c_row, int64_t rows) {
  for (int64_t i = 0; i < rows; i += Block::kHeight) {
    for (int j = 0; j < kCols; j += kBlockCols) {
      Block block;
      block.load(start + i * start_row + j, start_row);
      block.add<Row, Columns>(a + i * a_row, a_row, a_step, b + 4 * j, 4 * kCols, steps);
      block.store(c + i * c_row + j, c_row);
    }
  }
}

constexpr auto dot8 = dot<RowQuads, Quads>;
constexpr auto dot16 = dot<RowPairs, Pairs>;

constexpr auto turn = turn_scalar;

template <typename T>
void pair(const T* __restrict even, const T* __restrict odd, int64_t n, int16_t* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[2 * i] = even[i], out[2 * i + 1] = odd[i];
}

}  // namespace
}  // namespace fourbit

#define FOURBIT_WINOGRAD winograd_scalar
#include "kernels/winograd/winograd.inl"
