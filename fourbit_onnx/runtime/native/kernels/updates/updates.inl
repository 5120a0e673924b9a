// Included once by each instruction set's file, which defines FOURBIT_UPDATES and has its own flags
// (see kernels/elements/elements.inl). Every operation is one rounding, in the order of the function
// bodies in fourbit_onnx/ops/optimizers.py.
#include "base/past_caches.inl"
#include "kernels/updates/updates.h"

namespace fourbit {
namespace {

constexpr int64_t kPart = 256;  // results wait in the first cache until they are stored

void store(const float* from, int64_t n, bool past_caches, float* to) {
  if (to == nullptr) return;
  if (past_caches) {
    store_past_caches(from, n, to);
  } else {
    __builtin_memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
  }
}

float* moved(float* to, int64_t by) { return to == nullptr ? nullptr : to + by; }

void sgd(const float* p, const float* g, const float* m, int64_t n, const SgdStep& step, bool past_caches,
         float* new_p, float* new_m) {
  alignas(64) float p_part[kPart], m_part[kPart];
  const float factor = step.factor, rate = step.rate, mu = step.momentum, decay = step.decay;
  for (int64_t at = 0; at < n; at += kPart) {
    const int64_t count = n - at < kPart ? n - at : kPart;
    const float *pa = p + at, *ga = g + at, *ma = m + at;
    if (step.nesterov) {
      for (int64_t i = 0; i < count; ++i) {
        const float gradient = ga[i] * factor + pa[i] * decay;
        const float moment = ma[i] * mu + gradient;
        m_part[i] = moment;
        p_part[i] = pa[i] - (gradient + moment * mu) * rate;
      }
    } else {
      for (int64_t i = 0; i < count; ++i) {
        const float moment = ma[i] * mu + (ga[i] * factor + pa[i] * decay);
        m_part[i] = moment;
        p_part[i] = pa[i] - moment * rate;
      }
    }
    store(p_part, count, past_caches, moved(new_p, at));
    store(m_part, count, past_caches, moved(new_m, at));
  }
  settle();
}

void adamw(const float* p, const float* g, const float* mean, const float* square, int64_t n, const AdamWStep& step,
           bool past_caches, float* new_p, float* new_mean, float* new_square) {
  alignas(64) float p_part[kPart], mean_part[kPart], square_part[kPart];
  const float factor = step.factor, rate = step.rate, correction1 = step.correction1, correction2 = step.correction2,
              beta1 = step.beta1, beta2 = step.beta2, rest1 = 1.0f - beta1, rest2 = 1.0f - beta2,
              epsilon = step.epsilon, kept_share = 1.0f - rate * step.decay;
  for (int64_t at = 0; at < n; at += kPart) {
    const int64_t count = n - at < kPart ? n - at : kPart;
    const float *pa = p + at, *ga = g + at, *first = mean + at, *second = square + at;
    for (int64_t i = 0; i < count; ++i) {
      const float gradient = ga[i] * factor;
      const float moment1 = first[i] * beta1 + gradient * rest1;
      const float moment2 = second[i] * beta2 + gradient * gradient * rest2;
      const float direction = moment1 / correction1 / (__builtin_sqrtf(moment2 / correction2) + epsilon);
      mean_part[i] = moment1;
      square_part[i] = moment2;
      p_part[i] = pa[i] * kept_share - direction * rate;
    }
    store(p_part, count, past_caches, moved(new_p, at));
    store(mean_part, count, past_caches, moved(new_mean, at));
    store(square_part, count, past_caches, moved(new_square, at));
  }
  settle();
}

}  // namespace

const UpdateKernels FOURBIT_UPDATES = {sgd, adamw};

}  // namespace fourbit
