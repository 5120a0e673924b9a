// Sums as trees, for files of one instruction set (internal linkage, as in kernels/elements/elements.inl). The orders
// are defined in ops/tree_sums.py of the package. No __restrict: what a round writes the next one reads, and GCC, once it
// has inlined them, takes the promise for all rounds of the loop: sums of 9 terms were wrong with AVX-512.
#include <cstddef>
#include <cstdint>

namespace fourbit {
namespace {

[[maybe_unused]] inline void add(float* sum, const float* other, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += other[i];
}

// The second half is added to the first, until at most `few` numbers are left; returns how many.
[[maybe_unused]] inline int64_t halves_down_to(int64_t few, float* terms, int64_t n) {
  while (n > few) {
    const int64_t count = (n + 1) / 2;
    add(terms, terms + count, n - count);
    n = count;
  }
  return n;
}

[[maybe_unused]] inline float halves(float* terms, int64_t n) {
  halves_down_to(1, terms, n);
  return *terms;
}

// The sum by pairs of `count` > 0 rows of n numbers, in the first of them.
[[maybe_unused]] inline void pairs(float* rows, int64_t count, int64_t n) {
  for (; count > 1; count = (count + 1) / 2) {
    add(rows, rows + n, n);
    for (int64_t i = 1; i < count / 2; ++i) {
      const float *first = rows + 2 * i * n, *second = first + n;
      float* to = rows + i * n;  // before what is read
      for (int64_t j = 0; j < n; ++j) to[j] = first[j] + second[j];
    }
    if (count % 2 != 0) {
      __builtin_memmove(rows + count / 2 * n, rows + (count - 1) * n, static_cast<size_t>(n) * sizeof(float));
    }
  }
}

}  // namespace
}  // namespace fourbit
