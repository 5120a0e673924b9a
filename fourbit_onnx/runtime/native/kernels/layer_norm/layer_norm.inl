// Included once by each instruction set's file, which defines FOURBIT_LAYER_NORM and has its own flags: simple loops,
// that the compiler turns into that set's vectors. Everything here has internal linkage and calls nothing of the C++
// library (see kernels/elements/elements.inl).
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/tree_sums.inl"

namespace fourbit {
namespace {

// Half of the terms are read and added as they are made.
float sum_of_squares(const float* __restrict x, int64_t n, float* __restrict terms) {
  const int64_t count = (n + 1) / 2;
  for (int64_t i = 0; i < n - count; ++i) terms[i] = x[i] * x[i] + x[count + i] * x[count + i];
  if (n - count < count) terms[count - 1] = x[count - 1] * x[count - 1];
  return halves(terms, count);
}

float sum_of(const float* __restrict x, int64_t n, float* __restrict terms) {
  const int64_t count = (n + 1) / 2;
  for (int64_t i = 0; i < n - count; ++i) terms[i] = x[i] + x[count + i];
  if (n - count < count) terms[count - 1] = x[count - 1];
  return halves(terms, count);
}

void forward(const float* x, const float* scale, const float* bias, float epsilon, int64_t rows, int64_t n,
             float* scratch, float* y, float* mean, float* inv_std) {
  float *__restrict centred = scratch, *terms = scratch + n;
  const float size = static_cast<float>(n);
  for (int64_t row = 0; row < rows; ++row, x += n) {
    const float m = sum_of(x, n, terms) / size;
    for (int64_t i = 0; i < n; ++i) centred[i] = x[i] - m;
    const double var = sum_of_squares(centred, n, terms) / size;
    const float s = static_cast<float>(1.0 / __builtin_sqrt(var + static_cast<double>(epsilon)));
    mean[row] = m;
    inv_std[row] = s;
    if (y == nullptr) continue;
    float* __restrict to = y + row * n;
    for (int64_t i = 0; i < n; ++i) to[i] = centred[i] * s * scale[i] + bias[i];
  }
}

// dx of one row, and dy * xhat and dy for the sums over rows.
void one_row(const float* __restrict dy, const float* __restrict x, const float* __restrict scale, float mean,
             float inv_std, int64_t n, float* __restrict xhat, float* __restrict g, float* __restrict g_terms,
             float* __restrict p_terms, float* __restrict dx, float* __restrict carried) {
  for (int64_t i = 0; i < n; ++i) {
    const float d = dy[i], normal = (x[i] - mean) * inv_std, scaled = d * scale[i];
    xhat[i] = normal;
    g[i] = g_terms[i] = scaled;
    p_terms[i] = scaled * normal;
    carried[i] = d * normal;
    carried[n + i] = d;
  }
  const float size = static_cast<float>(n), a = halves(g_terms, n) / size, b = halves(p_terms, n) / size;
  if (dx == nullptr) return;
  for (int64_t i = 0; i < n; ++i) dx[i] = (g[i] - a - xhat[i] * b) * inv_std;
}

void backward(const float* dy, const float* x, const float* scale, const float* mean, const float* inv_std,
              int64_t rows, int64_t n, float* scratch, float* dx, float* sums) {
  float *xhat = scratch, *g = xhat + n, *g_terms = g + n, *p_terms = g_terms + n;
  float* level[kLevels];  // of 2^l rows that wait for as many; the last is that of the row that comes
  for (int64_t l = 0; l < kLevels; ++l) level[l] = p_terms + n + 2 * n * l;
  float* carried = level[kLevels - 1];
  for (int64_t row = 0; row < rows; ++row) {
    one_row(dy + row * n, x + row * n, scale, mean[row], inv_std[row], n, xhat, g, g_terms, p_terms,
            dx != nullptr ? dx + row * n : nullptr, carried);
    int64_t l = 0;
    for (; row >> l & 1; ++l) add(carried, level[l], 2 * n);  // a + b is b + a
    float* swapped = level[l];
    level[l] = carried;
    carried = swapped;
  }
  // The rows that are left over, the last ones first.
  const float* total = nullptr;
  for (int64_t l = 0; l < kLevels - 1; ++l) {
    if (!(rows >> l & 1)) continue;
    if (total != nullptr) add(level[l], total, 2 * n);
    total = level[l];
  }
  __builtin_memcpy(sums, total, 2 * n * sizeof(float));
}

}  // namespace

const LayerNormKernels FOURBIT_LAYER_NORM = {forward, backward, pairs};

}  // namespace fourbit
