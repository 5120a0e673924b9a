#include "kernels/winograd/panels.h"

#include <algorithm>
#include <cstring>

#include "kernels/bytes/bytes.h"
#include "kernels/winograd/winograd.h"

namespace fourbit {
namespace {

constexpr int64_t kTaps = 9;

}  // namespace

Panels::Panels(const Operand& w, int64_t filters, int64_t channels, Use use)
    : kernels_(best_winograd()), use_(use), columns_(use == Use::forward ? filters : channels),
      k_(use == Use::forward ? channels : filters), channels_(channels), codes_(w.codes) {
  for (int code = 0; code < 16; ++code) table_[code] = static_cast<uint8_t>(w.values[code] - w.zero_point);
}

void Panels::make(int64_t panel, uint8_t* to, int32_t* starts) const {
  if (use_ == Use::forward) return make_forward(panel, to, starts);
  std::memset(starts, 0, kPoints * kCols * sizeof *starts);
  make_backward(panel, to);
}

void Panels::make_forward(int64_t panel, uint8_t* to, int32_t* starts) const {
  const int64_t padded = divide_up(k_, int64_t{kCols}) * kCols;
  // Points of some filters; `turn` reads beyond a line.
  Buffer<int8_t> taps(kTaps * padded), points(kTurnLines * kPoints * padded + 64);
  std::memset(taps.data(), 0, kTaps * padded);
  const Turn turn = best_turn();
  const DealTaps deal = best_deal_taps();
  for (int64_t half = 0; half < kCols; half += kTurnLines) {
    for (int64_t j = 0; j < kTurnLines; ++j) {
      const int64_t filter = panel * kCols + half + j;
      int8_t* line = points.data() + j * kPoints * padded;
      if (filter >= columns_) {
        std::memset(line, 0, kPoints * padded);
      } else {
        deal(codes_, filter * k_ * kTaps, k_, kTaps, table_, reinterpret_cast<uint8_t*>(taps.data()), padded);
        kernels_.weights(taps.data(), padded, line, padded);
      }
    }
    for (int p = 0; p < kPoints; ++p) {
      turn(reinterpret_cast<const uint8_t*>(points.data()) + p * padded, kPoints * padded, steps(),
           to + p * point_bytes() + half * 4, kCols * 4);
    }
  }
  for (int p = 0; p < kPoints; ++p, starts += kCols) {
    best_column_sums()(reinterpret_cast<const int8_t*>(to + p * point_bytes()), steps(), starts);
    for (int j = 0; j < kCols; ++j) starts[j] *= -kInputShift;
  }
}

void Panels::make_backward(int64_t panel, uint8_t* to) const {
  Buffer<int8_t> taps(kTaps * kCols), points(2 * kPoints * kCols);
  std::memset(taps.data(), 0, kTaps * kCols);
  const int64_t columns = std::min<int64_t>(kCols, columns_ - panel * kCols);
  const DealTaps deal = best_deal_taps();
  for (int64_t s = 0; s < steps(); ++s) {
    for (int64_t odd = 0; odd < 2; ++odd) {
      int8_t* half = points.data() + odd * kPoints * kCols;
      const int64_t filter = 2 * s + odd;
      if (filter >= k_) {
        std::memset(half, 0, kPoints * kCols);
        continue;
      }
      deal(codes_, (filter * channels_ + panel * kCols) * kTaps, columns, kTaps, table_,
           reinterpret_cast<uint8_t*>(taps.data() + (kTaps - 1) * kCols), -kCols);
      kernels_.weights(taps.data(), kCols, half, kCols);
    }
    kernels_.pair8(points.data(), points.data() + kPoints * kCols, kCols, 1,
                   reinterpret_cast<int16_t*>(to + s * kCols * 4), 0, point_bytes() / 2);
  }
}

}  // namespace fourbit
