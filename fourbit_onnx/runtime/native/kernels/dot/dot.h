// The one micro-kernel: u8 times s8 to s32, 12 rows by 32 columns.
#pragma once

#include <cstdint>

#include "kernels/variants.h"

namespace fourbit {

constexpr int kRows = 12;
constexpr int kCols = 32;

// c[i][j] = start[j] + sum over k of a[i][k] * (b[k][j] + 64 * high[k][j]),  for i < kRows, j < kCols, k < 4 * steps
//
// a      within 0..128 (a code and its shift), steps x kRows x 4 bytes: four k of row 0, of row 1, ...
// b      within -64..64 (a code, or one plane), steps x kCols x 4 bytes: four k of column 0, ...
// high   a second plane, like b; nullptr if there is none
// start  kCols numbers: what corrects the shift of a
// c      row-major, `ldc` elements from row to row, overwritten; may not overlap what is read
//
// Modulo 2^32: right when the result fits, whatever happens on the way. Without `high` and `start`, |c| <= 128 * 64 * k,
// which fits for k < 262,144. No alignment is needed.
using Dot = void (*)(const uint8_t* a, const int8_t* b, const int8_t* high, int64_t steps, const int32_t* start,
                     int32_t* c, int64_t ldc);

// sums[j] = sum over k of b[k][j],  for j < kCols, k < 4 * steps; b lies as above, of any signed bytes.
using ColumnSums = void (*)(const int8_t* b, int64_t steps, int32_t* sums);

// More steps than this are split, and added in int64: 4 * 32768 * 128 * 64 = 2^30.
constexpr int64_t kMaxSteps = 32768;

FOURBIT_FUNCTION(Dot, dot)
FOURBIT_FUNCTION(ColumnSums, column_sums)

}  // namespace fourbit
