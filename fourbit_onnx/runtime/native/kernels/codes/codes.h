// Codes in another order or place: nothing is computed.
#pragma once

#include <cstdint>

#include "base/host.h"

namespace fourbit {

// out[j][i] = codes[i][j],  for i < rows, j < columns; both packed without gaps, and apart
void transpose_codes(const uint8_t* codes, int64_t rows, int64_t columns, uint8_t* out, const Host& host);

// `count` codes of `codes` to nibble `at` of `out` and after it; what is before stays. If a nibble is left in the last byte, it
// is 0, given that it is in `codes`.
void append_codes(const uint8_t* codes, int64_t count, uint8_t* out, int64_t at);

}  // namespace fourbit
