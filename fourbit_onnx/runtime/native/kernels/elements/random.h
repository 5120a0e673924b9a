// Random numbers as a function of a counter; no state.
#pragma once

#include <cstdint>

#include "base/host.h"

namespace fourbit {

// u[i], i < n: multiples of 2^-24 in [0, 1), from counter, stream and i alone.
void random_uniform(float* u, int64_t n, uint64_t counter, uint32_t stream, const Host& host);

}  // namespace fourbit
