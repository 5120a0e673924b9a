#include "kernels/elements/random.h"

#include "kernels/elements/elements.h"

namespace fourbit {
namespace {

uint32_t mix(uint32_t h) {
  h ^= h >> 16;
  h *= 0x21f0aaadu;
  h ^= h >> 15;
  h *= 0x735a2d97u;
  return h ^ h >> 15;
}

}  // namespace

void random_uniform(float* u, int64_t n, uint64_t counter, uint32_t stream, const Host& host) {
  const uint32_t half = mix(mix(static_cast<uint32_t>(counter)) ^ static_cast<uint32_t>(counter >> 32));
  const uint32_t key = mix(half ^ stream);
  const uint32_t low_key = mix(key ^ 1), high_key = mix(key ^ 2);
  // Blocks that do not straddle a multiple of 2^32: the high half of i is one number in each.
  constexpr int64_t block = 16384;
  const ElementKernels& k = best_elements();
  parallel_ranges(host, divide_up(n, block), [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      const int64_t at = b * block;
      const uint32_t high = static_cast<uint32_t>(static_cast<uint64_t>(at) >> 32);
      k.random(u + at, n - at < block ? n - at : block, static_cast<uint32_t>(at), low_key, high ^ high_key);
    }
  });
}

}  // namespace fourbit
