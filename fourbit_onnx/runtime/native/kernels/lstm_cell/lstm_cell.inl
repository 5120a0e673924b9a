// Included once by each instruction set's file, which defines FOURBIT_LSTM_CELL and has its own flags: simple loops,
// that the compiler turns into that set's vectors. Everything here has internal linkage and calls nothing of the C++
// library (see kernels/elements/elements.inl).
#include "kernels/lstm_cell/lstm_cell.h"

namespace fourbit {
namespace {

constexpr float kLimit = 8.75f;

// NaN stays what it is.
float bounded(float x, float limit) {
  x = x < -limit ? -limit : x;
  return x > limit ? limit : x;
}

float tanh(float x) {
  const float t = bounded(x, kLimit), s = t * t;
  float p = 1.3635591e-08f;
  p = p * s + 2.0796186e-05f;
  p = p * s + 0.0035062989f;
  p = p * s + 0.1338982f;
  p = p * s + 0.99999994f;
  float q = 7.8868663e-07f;
  q = q * s + 0.0003303614f;
  q = q * s + 0.025917042f;
  q = q * s + 0.46723124f;
  q = q * s + 1.0f;
  return bounded(t * (p / q), 1.0f);
}

float sigmoid(float x) { return 0.5f + 0.5f * tanh(0.5f * x); }

void forward(const float* __restrict p, const float* __restrict y, const float* __restrict c, int64_t n,
             float* __restrict h, float* __restrict new_c, float* __restrict gates) {
  for (int64_t j = 0; j < n; ++j) {
    const float i = sigmoid(p[j] + y[j]), o = sigmoid(p[j + n] + y[j + n]),
                f = sigmoid(p[j + 2 * n] + y[j + 2 * n]), g = tanh(p[j + 3 * n] + y[j + 3 * n]);
    const float state = f * c[j] + i * g;
    gates[j] = i;
    gates[j + n] = o;
    gates[j + 2 * n] = f;
    gates[j + 3 * n] = g;
    new_c[j] = state;
    h[j] = o * tanh(state);
  }
}

void backward(const float* __restrict dh, const float* __restrict more_dh, const float* __restrict dc,
              const float* __restrict gates, const float* __restrict c, const float* __restrict new_c, int64_t n,
              float* __restrict dsums, float* __restrict previous_dc) {
  for (int64_t j = 0; j < n; ++j) {
    const float i = gates[j], o = gates[j + n], f = gates[j + 2 * n], g = gates[j + 3 * n];
    const float d = dh[j] + more_dh[j], t = tanh(new_c[j]);
    const float dn = dc[j] + (d * o) * (1.0f - t * t);
    dsums[j] = (dn * g) * (i * (1.0f - i));
    dsums[j + n] = (d * t) * (o * (1.0f - o));
    dsums[j + 2 * n] = (dn * c[j]) * (f * (1.0f - f));
    dsums[j + 3 * n] = (dn * i) * (1.0f - g * g);
    previous_dc[j] = dn * f;
  }
}

}  // namespace

const LstmCellKernels FOURBIT_LSTM_CELL = {forward, backward};

}  // namespace fourbit
