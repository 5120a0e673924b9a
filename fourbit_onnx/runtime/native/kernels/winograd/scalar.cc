// The reference. Read this one to know what the others do.
#include "kernels/bytes/bytes.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

template <typename A, typename B>
void dot(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t steps, const int32_t* start,
         int64_t start_row, int32_t* c, int64_t c_row, int64_t rows) {
  constexpr int kParts = 4 / sizeof(A);
  for (int64_t i = 0; i < rows; ++i) {
    for (int j = 0; j < kCols; ++j) {
      uint32_t sum = static_cast<uint32_t>(start[i * start_row + j]);
      for (int64_t k = 0; k < steps; ++k) {
        A x[kParts];
        B y[kParts];
        __builtin_memcpy(x, a + i * a_row + k * a_step, 4);
        __builtin_memcpy(y, b + (k * kCols + j) * 4, 4);
        for (int p = 0; p < kParts; ++p) sum += static_cast<uint32_t>(x[p] * y[p]);
      }
      c[i * c_row + j] = static_cast<int32_t>(sum);
    }
  }
}

constexpr auto dot8 = dot<uint8_t, int8_t>;
constexpr auto dot16 = dot<int16_t, int16_t>;

constexpr auto turn = turn_scalar;

}  // namespace
}  // namespace fourbit

#define FOURBIT_WINOGRAD winograd_scalar
#include "kernels/winograd/winograd.inl"
