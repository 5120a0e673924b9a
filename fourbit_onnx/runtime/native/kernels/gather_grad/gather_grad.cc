#include "kernels/gather_grad/gather_grad.h"

#include <algorithm>

namespace fourbit {
namespace {

constexpr int64_t kColumns = 64;  // of a task: four lines of a cache

}  // namespace

// Tasks share columns, so that each element of dx has one task, which takes the indices in their order. It is the
// memory that takes the time, and every CPU adds fast enough for it: one variant is enough.
void gather_grad(const float* dy, const int64_t* indices, int64_t outer, int64_t count, int64_t n, int64_t inner,
                 float* dx, const Host& host) {
  const int64_t parts = divide_up(inner, kColumns);
  host.parallel(outer * parts, [&](int64_t task) {
    const int64_t o = task / parts, first = task % parts * kColumns, columns = std::min(kColumns, inner - first);
    const float* from = dy + o * count * inner + first;
    float* to = dx + o * n * inner + first;
    for (int64_t row = 0; row < n; ++row) std::fill_n(to + row * inner, columns, 0.0f);
    for (int64_t i = 0; i < count; ++i) {
      const float* __restrict added = from + i * inner;
      float* __restrict sum = to + indices[i] * inner;
      for (int64_t c = 0; c < columns; ++c) sum[c] += added[c];
    }
  });
}

}  // namespace fourbit
