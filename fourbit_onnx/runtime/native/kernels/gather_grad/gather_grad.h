// The gradient of Gather: a sum of rows where they were taken from, in the order of the indices.
#pragma once

#include <cstdint>

#include "base/host.h"

namespace fourbit {

// dx of shape [outer, n, inner] from dy of shape [outer, count, inner]; indices from 0 to n - 1.
void gather_grad(const float* dy, const int64_t* indices, int64_t outer, int64_t count, int64_t n, int64_t inner,
                 float* dx, const Host& host);

}  // namespace fourbit
