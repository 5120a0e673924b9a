// Included once by each instruction set's file, after its dot8, dot16, turn and pair, with FOURBIT_WINOGRAD defined.
// Internal linkage, and nothing of the C++ library, for the reason given in elements.inl.
#include "base/past_caches.inl"

namespace fourbit {
namespace {

template <typename T>
struct Unsigned;
template <>
struct Unsigned<int8_t> {
  using Type = uint8_t;
};
template <>
struct Unsigned<int16_t> {
  using Type = uint16_t;
};

// The compiler's portable vectors, because it does not see that the planes of a loop do not overlap. Where a
// register is shorter, it takes several.
template <typename T, int kBytes>
struct Lanes {
  typedef T Vector __attribute__((vector_size(kBytes)));
  static constexpr int64_t kCount = kBytes / sizeof(T);
};

template <typename Vector, typename T>
Vector load(const T* p) {
  Vector x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}

template <typename Vector, typename T>
void store(T* p, Vector x) {
  __builtin_memcpy(p, &x, sizeof x);
}

// B' d B. Here and below numbers are unsigned, because those wrap: only results must fit.
template <typename T, typename Out, int kShift>
void input(const T* tile, int64_t row, int64_t channels, Out* out, int64_t plane) {
  using L = Lanes<typename Unsigned<T>::Type, kVectorBytes>;
  using V = typename L::Vector;
  for (int64_t c = 0; c < channels; c += L::kCount, tile += L::kCount, out += L::kCount) {
    V w[4][4];
    for (int j = 0; j < 4; ++j) {
      const V a = load<V>(tile + j * channels), b = load<V>(tile + row + j * channels),
              e = load<V>(tile + 2 * row + j * channels), f = load<V>(tile + 3 * row + j * channels);
      w[0][j] = a - e, w[1][j] = b + e, w[2][j] = e - b, w[3][j] = b - f;
    }
    for (int i = 0; i < 4; ++i) {
      constexpr typename Unsigned<T>::Type kAdded = kShift;
      store(out + (4 * i + 0) * plane, w[i][0] - w[i][2] + kAdded);
      store(out + (4 * i + 1) * plane, w[i][1] + w[i][2] + kAdded);
      store(out + (4 * i + 2) * plane, w[i][2] - w[i][1] + kAdded);
      store(out + (4 * i + 3) * plane, w[i][1] - w[i][3] + kAdded);
    }
  }
}

// A dy A'
void gradient16(const int16_t* tile, int64_t row, int64_t channels, int16_t* out, int64_t plane) {
  using L = Lanes<uint16_t, kVectorBytes>;
  using V = L::Vector;
  for (int64_t c = 0; c < channels; c += L::kCount, tile += L::kCount, out += L::kCount) {
    const V a = load<V>(tile), b = load<V>(tile + channels), e = load<V>(tile + row), f = load<V>(tile + row + channels);
    const V left[4] = {a, a + e, a - e, -e}, right[4] = {b, b + f, b - f, -f};
    for (int i = 0; i < 4; ++i) {
      store(out + (4 * i + 0) * plane, left[i]);
      store(out + (4 * i + 1) * plane, left[i] + right[i]);
      store(out + (4 * i + 2) * plane, left[i] - right[i]);
      store(out + (4 * i + 3) * plane, -right[i]);
    }
  }
}

// 4 G g G'
void weights(const int8_t* taps, int64_t channels, int8_t* out, int64_t plane) {
  using L = Lanes<uint8_t, kCols>;
  using V = L::Vector;
  for (int64_t c = 0; c < channels; c += L::kCount, taps += L::kCount, out += L::kCount) {
    V w[4][3];
    for (int j = 0; j < 3; ++j) {
      const V a = load<V>(taps + j * channels), b = load<V>(taps + (3 + j) * channels),
              e = load<V>(taps + (6 + j) * channels);
      w[0][j] = a + a, w[1][j] = a + b + e, w[2][j] = a - b + e, w[3][j] = e + e;
    }
    for (int i = 0; i < 4; ++i) {
      store(out + (4 * i + 0) * plane, w[i][0] + w[i][0]);
      store(out + (4 * i + 1) * plane, w[i][0] + w[i][1] + w[i][2]);
      store(out + (4 * i + 2) * plane, w[i][0] - w[i][1] + w[i][2]);
      store(out + (4 * i + 3) * plane, w[i][2] + w[i][2]);
    }
  }
}

void pair8(const int8_t* even, const int8_t* odd, int64_t plane, int64_t panels, int16_t* out, int64_t panel,
           int64_t out_plane) {
  for (int p = 0; p < kPoints; ++p) {
    for (int64_t i = 0; i < panels; ++i) {
      const int64_t at = p * plane + i * kCols;
      pair(even + at, odd + at, kCols, out + p * out_plane + i * panel);
    }
  }
}

void pair16(const int16_t* even, const int16_t* odd, int64_t plane, int64_t n, int16_t* out, int64_t out_plane) {
  for (int p = 0; p < kPoints; ++p, even += plane, odd += plane, out += out_plane) pair(even, odd, n, out);
}

// A' m A / 4 of 16 channels of a tile: left and right pixel of both rows.
void pixels(const int32_t* m, int64_t plane, float scale, float* upper, float* lower) {
  using U = Lanes<uint32_t, 64>::Vector;
  using S = Lanes<int32_t, 64>::Vector;
  using F = Lanes<float, 64>::Vector;
  U u[4], l[4];
  for (int j = 0; j < 4; ++j) {
    const U a = load<U>(m + j * plane), b = load<U>(m + (4 + j) * plane), e = load<U>(m + (8 + j) * plane),
            f = load<U>(m + (12 + j) * plane);
    u[j] = a + b + e, l[j] = b - e - f;
  }
  const auto number = [=](U x) { return __builtin_convertvector(reinterpret_cast<S>(x) >> 2, F) * scale; };
  store(upper, number(u[0] + u[1] + u[2]));
  store(upper + 16, number(u[1] - u[2] - u[3]));
  store(lower, number(l[0] + l[1] + l[2]));
  store(lower + 16, number(l[1] - l[2] - l[3]));
}

void output(const int32_t* m, int64_t plane, int64_t tiles, int64_t channels, int64_t columns, int64_t rows,
            float scale, float* y, int64_t channel, int64_t row) {
  alignas(64) float lines[2][16][16];  // [row][column][channel]
  alignas(64) float turned[16][16];
  for (int64_t first = 0; first < channels; first += 16) {
    for (int64_t t = 0; t < tiles; ++t) {
      pixels(m + t * kCols + first, plane, scale, lines[0][2 * t], lines[1][2 * t]);
    }
    const int64_t some = channels - first < 16 ? channels - first : 16;
    for (int64_t i = 0; i < rows; ++i) {
      turn(reinterpret_cast<const uint8_t*>(lines[i]), 64, 16, reinterpret_cast<uint8_t*>(turned), 64);
      float* to = y + first * channel + i * row;
      if (columns == 16) {
        for (int64_t c = 0; c < some; ++c) store_past_caches(turned[c], 16, to + c * channel);
      } else if (columns == 8) {
        for (int64_t c = 0; c < some; ++c) __builtin_memcpy(to + c * channel, turned[c], 32);
      } else if (columns == 4) {
        for (int64_t c = 0; c < some; ++c) __builtin_memcpy(to + c * channel, turned[c], 16);
      } else {
        for (int64_t c = 0; c < some; ++c) {
          for (int64_t j = 0; j < columns; ++j) to[c * channel + j] = turned[c][j];
        }
      }
    }
  }
}

// (2G)' m (2G) / 4
template <typename Sum, typename Unsigned>
void taps(const Sum* m, int64_t plane, int64_t channels, float scale, float* y) {
  using U = typename Lanes<Unsigned, 16 * sizeof(Sum)>::Vector;
  using S = typename Lanes<Sum, 16 * sizeof(Sum)>::Vector;
  using F = Lanes<float, 64>::Vector;
  alignas(64) float lines[9][kCols];
  for (int c = 0; c < kCols; c += 16) {
    U w[3][4];
    for (int j = 0; j < 4; ++j) {
      const U a = load<U>(m + c + j * plane), b = load<U>(m + c + (4 + j) * plane),
              e = load<U>(m + c + (8 + j) * plane), f = load<U>(m + c + (12 + j) * plane);
      w[0][j] = a + a + b + e, w[1][j] = b - e, w[2][j] = b + e + f + f;
    }
    const auto number = [=](U x) { return __builtin_convertvector(reinterpret_cast<S>(x) >> 2, F) * scale; };
    for (int i = 0; i < 3; ++i) {
      store(lines[3 * i] + c, number(w[i][0] + w[i][0] + w[i][1] + w[i][2]));
      store(lines[3 * i + 1] + c, number(w[i][1] - w[i][2]));
      store(lines[3 * i + 2] + c, number(w[i][1] + w[i][2] + w[i][3] + w[i][3]));
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    for (int t = 0; t < 9; ++t) y[9 * c + t] = lines[t][c];
  }
}

}  // namespace

const WinogradKernels FOURBIT_WINOGRAD = {
    input<int8_t, uint8_t, kInputShift>, input<int8_t, int8_t, 0>, input<int16_t, int16_t, 0>, gradient16, weights,
    pair8, pair16, output, taps<int32_t, uint32_t>, taps<int64_t, uint64_t>, settle, dot8, dot16};

}  // namespace fourbit
