// GELU and its gradient, element by element. The definition is in ops/reference/gelu.py.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/variants.h"

namespace fourbit {

// Functions of one instruction set.
struct GeluKernels {
  // y = x * Phi(x)
  void (*forward)(const float* x, int64_t n, float* y);
  // dx = dy * (Phi(x) + x * phi(x))
  void (*backward)(const float* dy, const float* x, int64_t n, float* dx);
};

FOURBIT_TABLE(GeluKernels, gelu)

}  // namespace fourbit
