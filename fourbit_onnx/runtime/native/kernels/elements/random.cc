#include "kernels/elements/random.h"

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
  parallel_ranges(host, n, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const uint32_t low = mix(static_cast<uint32_t>(i) ^ low_key);
      const uint32_t h = mix(low ^ static_cast<uint32_t>(static_cast<uint64_t>(i) >> 32) ^ high_key);
      u[i] = static_cast<float>(h >> 8) * 0x1p-24f;
    }
  });
}

}  // namespace fourbit
