// Dot products in the compiler's portable vectors, for CPUs without a file of their own: of 16 bytes, as SSE2 and NEON
// have them (of longer ones compilers make poor code there). Included by files of one instruction set (internal linkage).
#pragma once

#include <cstdint>

namespace fourbit {
namespace {

constexpr int kPortableCols = 4;  // columns of a vector, four bytes of k each

typedef int16_t Halves __attribute__((vector_size(16)));
typedef uint16_t PlainHalves __attribute__((vector_size(16)));
typedef int32_t Words __attribute__((vector_size(16)));
typedef uint32_t Sums __attribute__((vector_size(16)));  // modulo 2^32

template <typename V>
inline V load_columns(const void* from) {
  V columns;
  __builtin_memcpy(&columns, from, sizeof columns);
  return columns;
}

inline void store_columns(const Sums& sums, void* to) { __builtin_memcpy(to, &sums, sizeof sums); }

inline Words low_half(Words words) { return reinterpret_cast<Words>(reinterpret_cast<Sums>(words) << 16) >> 16; }

// The word of one row for all columns.
template <typename V>
inline V spread(const V& rows, int i) {
  const Words words = reinterpret_cast<Words>(rows);
  return reinterpret_cast<V>(Words{words[i], words[i], words[i], words[i]});
}

// Of four rows: four bytes of k, none of them negative, as halves: k = 0 and 2, and k = 1 and 3.
struct RowQuads {
  PlainHalves even, odd;
  explicit RowQuads(Words rows)
      : even(reinterpret_cast<PlainHalves>(rows) & 255), odd(reinterpret_cast<PlainHalves>(rows) >> 8) {}
};

// Of each column: four signed bytes of k, likewise.
struct Quads {
  PlainHalves even, odd;
  explicit Quads(const void* from)
      : even(reinterpret_cast<PlainHalves>(reinterpret_cast<Halves>(load_columns<PlainHalves>(from) << 8) >> 8)),
        odd(reinterpret_cast<PlainHalves>(load_columns<Halves>(from) >> 8)) {}
};

// sums + sum over the four k of a[k] * b[k]; the sum of two products must fit 16 bits. Modulo 2^16, for rows beyond the
// last, of whatever lies there: their sums nobody reads.
inline Sums add_products(Sums sums, const RowQuads& a, int row, const Quads& b) {
  const Words pairs = reinterpret_cast<Words>(spread(a.even, row) * b.even + spread(a.odd, row) * b.odd);
  return sums + reinterpret_cast<Sums>(low_half(pairs) + (pairs >> 16));
}

// Two numbers of 16 bits of four rows, and of each column.
struct RowPairs {
  Sums first, second;
  explicit RowPairs(Words rows)
      : first(reinterpret_cast<Sums>(low_half(rows))), second(reinterpret_cast<Sums>(rows >> 16)) {}
};
struct Pairs {
  Sums first, second;
  explicit Pairs(const void* from)
      : first(reinterpret_cast<Sums>(low_half(load_columns<Words>(from)))),
        second(reinterpret_cast<Sums>(load_columns<Words>(from) >> 16)) {}
};

inline Sums add_products(Sums sums, const RowPairs& a, int row, const Pairs& b) {
  return sums + spread(a.first, row) * b.first + spread(a.second, row) * b.second;
}

// 4 rows by 8 columns.
struct Block {
  static constexpr int kHeight = 4, kWidth = 2;
  Sums sums[kHeight][kWidth] = {};

  void load(const int32_t* from, int64_t row) {
    for (int i = 0; i < kHeight; ++i) {
      for (int v = 0; v < kWidth; ++v) sums[i][v] += load_columns<Sums>(from + i * row + v * kPortableCols);
    }
  }
  // Rows are a_row bytes apart and their steps a_step, the steps of columns b_step.
  template <typename Row, typename Columns>
  void add(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t b_step, int64_t steps) {
    for (int64_t s = 0; s < steps; ++s, a += a_step, b += b_step) {
      const Columns left(b), right(b + sizeof(Sums));
      const Row rows(Words{word(a), word(a + a_row), word(a + 2 * a_row), word(a + 3 * a_row)});
      for (int i = 0; i < kHeight; ++i) {
        sums[i][0] = add_products(sums[i][0], rows, i, left);
        sums[i][1] = add_products(sums[i][1], rows, i, right);
      }
    }
  }
  static int32_t word(const uint8_t* from) {
    int32_t found;
    __builtin_memcpy(&found, from, sizeof found);
    return found;
  }
  void store(int32_t* to, int64_t row) const {
    for (int i = 0; i < kHeight; ++i) {
      for (int v = 0; v < kWidth; ++v) store_columns(sums[i][v], to + i * row + v * kPortableCols);
    }
  }
};

constexpr int kBlockCols = Block::kWidth * kPortableCols;

}  // namespace
}  // namespace fourbit
