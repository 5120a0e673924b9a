#include "kernels/winograd/panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/bytes/bytes.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

constexpr int kTaps = 9;
constexpr int64_t kLines = 16;  // filters that are turned into columns at once

// Values of weights, as bytes in the order of the codes.
void decode(const Operand& w, int64_t count, int8_t* values, const Host& host) {
  uint8_t table[16];
  for (int code = 0; code < 16; ++code) table[code] = static_cast<uint8_t>(w.values[code] - w.zero_point);
  parallel_ranges(host, divide_up(count, 4096), [&](int64_t first, int64_t last) {
    const int64_t begin = first * 4096, end = std::min(last * 4096, count);
    best_unpack()(w.codes, begin, end - begin, table, reinterpret_cast<uint8_t*>(values + begin));
  });
}

// [channel][tap] to [tap][channel], the taps turned round if `turned`.
void deal_taps(const int8_t* values, int64_t channels, bool turned, int64_t plane, int8_t* taps) {
  for (int t = 0; t < kTaps; ++t) {
    int8_t* line = taps + (turned ? kTaps - 1 - t : t) * plane;
    for (int64_t c = 0; c < channels; ++c) line[c] = values[c * kTaps + t];
  }
}

int32_t sum(const int8_t* x, int64_t n) {
  int32_t result = 0;
  for (int64_t i = 0; i < n; ++i) result += x[i];
  return result;
}

}  // namespace

void forward_panels(const Operand& w, int64_t filters, int64_t channels, uint8_t* panels, int32_t* starts,
                    const Host& host) {
  const PanelShape shape{filters, channels, 1};
  const int64_t steps = shape.steps(), padded = divide_up(channels, int64_t{kCols}) * kCols;
  Buffer<int8_t> values(filters * channels * kTaps);
  decode(w, filters * channels * kTaps, values.data(), host);
  parallel_ranges(host, shape.panels(), [&](int64_t first, int64_t last) {
    const WinogradKernels& k = best_winograd();
    // Points of some filters; `turn` reads beyond a line.
    Buffer<int8_t> taps(kTaps * padded), points(kLines * kPoints * padded + 64);
    std::memset(taps.data(), 0, kTaps * padded);
    for (int64_t panel = first; panel < last; ++panel) {
      uint8_t* to = panels + panel * kPoints * shape.point_bytes();
      int32_t* start = starts + panel * kPoints * kCols;
      for (int64_t half = 0; half < kCols; half += kLines) {
        for (int64_t j = 0; j < kLines; ++j) {
          const int64_t filter = panel * kCols + half + j;
          int8_t* line = points.data() + j * kPoints * padded;
          if (filter >= filters) {
            std::memset(line, 0, kPoints * padded);
          } else {
            deal_taps(values.data() + filter * channels * kTaps, channels, false, padded, taps.data());
            k.weights(taps.data(), padded, line, padded);
          }
          for (int p = 0; p < kPoints; ++p) start[p * kCols + half + j] = -kInputShift * sum(line + p * padded, padded);
        }
        for (int p = 0; p < kPoints; ++p) {
          k.turn(reinterpret_cast<const uint8_t*>(points.data()) + p * padded, kPoints * padded, steps,
                 to + p * shape.point_bytes() + half * 4, kCols * 4);
        }
      }
    }
  });
}

void backward_panels(const Operand& w, int64_t filters, int64_t channels, uint8_t* panels, const Host& host) {
  const PanelShape shape{channels, filters, 2};
  const int64_t steps = shape.steps();
  Buffer<int8_t> values(filters * channels * kTaps);
  decode(w, filters * channels * kTaps, values.data(), host);
  parallel_ranges(host, shape.panels(), [&](int64_t first, int64_t last) {
    const WinogradKernels& k = best_winograd();
    Buffer<int8_t> taps(kTaps * kCols), points(2 * kPoints * kCols);
    std::memset(taps.data(), 0, kTaps * kCols);
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t columns = std::min<int64_t>(kCols, channels - panel * kCols);
      if (columns < kCols) std::memset(taps.data(), 0, kTaps * kCols);
      for (int64_t s = 0; s < steps; ++s) {
        for (int64_t odd = 0; odd < 2; ++odd) {
          int8_t* half = points.data() + odd * kPoints * kCols;
          const int64_t filter = 2 * s + odd;
          if (filter >= filters) {
            std::memset(half, 0, kPoints * kCols);
            continue;
          }
          const int8_t* from = values.data() + (filter * channels + panel * kCols) * kTaps;
          deal_taps(from, columns, true, kCols, taps.data());
          k.weights(taps.data(), kCols, half, kCols);
        }
        for (int p = 0; p < kPoints; ++p) {
          uint8_t* to = panels + (panel * kPoints + p) * shape.point_bytes() + s * kCols * 4;
          k.pair8(points.data() + p * kCols, points.data() + (kPoints + p) * kCols, kCols,
                  reinterpret_cast<int16_t*>(to));
        }
      }
    }
  });
}

}  // namespace fourbit
