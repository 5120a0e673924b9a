#include "kernels/updates/updates.h"

namespace fourbit {
namespace {

constexpr int64_t kBlock = 16384;        // elements; a multiple of every alignment
constexpr int64_t kPastCaches = 1 << 16;  // elements from which on the outputs are written past the caches

float* moved(float* to, int64_t by) { return to == nullptr ? nullptr : to + by; }

}  // namespace

void sgd_update(const float* p, const float* g, const float* m, int64_t n, const SgdStep& step, float* new_p,
                float* new_m, const Host& host) {
  const UpdateKernels& k = best_updates();
  parallel_blocks(host, n, kBlock, [&](int64_t at, int64_t count) {
    k.sgd(p + at, g + at, m + at, count, step, n >= kPastCaches, moved(new_p, at), moved(new_m, at));
  });
}

void adamw_update(const float* p, const float* g, const float* mean, const float* square, int64_t n,
                  const AdamWStep& step, float* new_p, float* new_mean, float* new_square, const Host& host) {
  const UpdateKernels& k = best_updates();
  parallel_blocks(host, n, kBlock, [&](int64_t at, int64_t count) {
    k.adamw(p + at, g + at, mean + at, square + at, count, step, n >= kPastCaches, moved(new_p, at),
            moved(new_mean, at), moved(new_square, at));
  });
}

}  // namespace fourbit
