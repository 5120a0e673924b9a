// The optimisers' updates of part of a parameter: one pass, each number read and written once.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/variants.h"

namespace fourbit {

// What all elements share. `factor` multiplies the gradient.
struct SgdStep {
  float factor, rate, momentum, decay;
  bool nesterov;
};

struct AdamWStep {
  float factor, rate, correction1, correction2, beta1, beta2, epsilon, decay;
};

// Functions of one instruction set. Where an output is nullptr, nobody wants it. `past_caches`: the
// outputs are too large to be found in a cache again, so do not read their lines in to write them.
struct UpdateKernels {
  void (*sgd)(const float* p, const float* g, const float* m, int64_t n, const SgdStep& step, bool past_caches,
              float* new_p, float* new_m);
  void (*adamw)(const float* p, const float* g, const float* mean, const float* square, int64_t n,
                const AdamWStep& step, bool past_caches, float* new_p, float* new_mean, float* new_square);
};

FOURBIT_TABLE(UpdateKernels, updates)

// Whole tensors, in parallel. Every element is computed by itself: no bit depends on threads.
void sgd_update(const float* p, const float* g, const float* m, int64_t n, const SgdStep& step, float* new_p,
                float* new_m, const Host& host);
void adamw_update(const float* p, const float* g, const float* mean, const float* square, int64_t n,
                  const AdamWStep& step, float* new_p, float* new_mean, float* new_square, const Host& host);

}  // namespace fourbit
