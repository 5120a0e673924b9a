// Included once by each instruction set's file, which defines FOURBIT_GELU and has its own flags: simple loops, that
// the compiler turns into that set's vectors. Everything here has internal linkage and calls nothing of the C++
// library (see kernels/elements/elements.inl).
#include "kernels/gelu/gelu.h"

namespace fourbit {
namespace {

constexpr float kCdfLimit = 5.5f, kSlopeLimit = 6.15f;

// NaN stays what it is.
float from_below(float x, float limit) { return x < -limit ? -limit : x; }

float from_above(float x, float limit) { return x > limit ? limit : x; }

// Phi(x) of x >= -kCdfLimit
float cdf(float x) {
  const float t = from_above(x, kCdfLimit), s = t * t;
  float p = 2.2749354e-08f;
  p = p * s + 6.3521265e-06f;
  p = p * s + 0.00016882659f;
  p = p * s + 0.0046772663f;
  p = p * s + 0.033852734f;
  p = p * s + 0.39894223f;
  float q = 1.1975043e-06f;
  q = q * s + 7.364781e-05f;
  q = q * s + 0.00188445f;
  q = q * s + 0.028645921f;
  q = q * s + 0.25152215f;
  q = q * s + 1.0f;
  return 0.5f + t * (p / q);
}

// Phi(x) + x * phi(x) of x >= -kSlopeLimit
float slope(float x) {
  const float t = from_above(x, kSlopeLimit), s = t * t;
  float p = -3.0118807e-11f;
  p = p * s + 1.444653e-08f;
  p = p * s + 1.3292147e-06f;
  p = p * s + 3.2005468e-05f;
  p = p * s + 0.00036243474f;
  p = p * s + 0.013400173f;
  p = p * s - 0.013780201f;
  p = p * s + 0.7978845f;
  float q = 4.2055902e-07f;
  q = q * s + 1.1809604e-05f;
  q = q * s + 0.00027784743f;
  q = q * s + 0.004368618f;
  q = q * s + 0.047150496f;
  q = q * s + 0.31606174f;
  q = q * s + 1.0f;
  return 0.5f + t * (p / q);
}

void forward(const float* __restrict x, int64_t n, float* __restrict y) {
  for (int64_t i = 0; i < n; ++i) {
    const float bounded = from_below(x[i], kCdfLimit);
    y[i] = bounded * cdf(bounded);
  }
}

void backward(const float* __restrict dy, const float* __restrict x, int64_t n, float* __restrict dx) {
  for (int64_t i = 0; i < n; ++i) dx[i] = dy[i] * slope(from_below(x[i], kSlopeLimit));
}

}  // namespace

const GeluKernels FOURBIT_GELU = {forward, backward};

}  // namespace fourbit
