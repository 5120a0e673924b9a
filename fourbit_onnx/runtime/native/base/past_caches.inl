// Stores past the caches, for files of one instruction set (internal linkage, as in kernels/elements/elements.inl).
// A large output is long gone from the caches when it is read, and an ordinary store reads the lines first that it
// overwrites, from the core that wrote them last: that took longer than all the rest of a layer.
#include <cstddef>
#include <cstdint>

#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace fourbit {
namespace {

// to[i] = from[i], i < n; `from` is 64-byte aligned. Past the caches where `to` is aligned for a whole vector.
[[maybe_unused]] inline void store_past_caches(const float* from, int64_t n, float* to) {
  int64_t i = 0;
#if defined(__AVX512F__)
  if (reinterpret_cast<uintptr_t>(to) % 64 == 0) {
    for (; i + 16 <= n; i += 16) _mm512_stream_ps(to + i, _mm512_load_ps(from + i));
  }
#elif defined(__AVX__)
  if (reinterpret_cast<uintptr_t>(to) % 32 == 0) {
    for (; i + 8 <= n; i += 8) _mm256_stream_ps(to + i, _mm256_load_ps(from + i));
  }
#endif
  if (i < n) __builtin_memcpy(to + i, from + i, static_cast<size_t>(n - i) * sizeof(float));
}

// To be called by a thread after its last store, before others read.
[[maybe_unused]] inline void settle() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace fourbit
