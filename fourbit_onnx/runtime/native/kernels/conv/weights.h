// A kernel tensor as the unsigned side: rows are filters (forward) or channels (gradient).
#pragma once

#include <cstdint>
#include <vector>

#include "base/host.h"
#include "kernels/gemm/gemm.h"

namespace fourbit {

// Weights [group, filter, channel, tap], unpacked once, then packed as panels. Rows and k past the end hold anything.
class Weights {
 public:
  Weights(const uint8_t* codes, int64_t groups, int64_t filters, int64_t channels, int64_t taps, const Planes& planes);

  // Bytes of all planes, [plane][group][filter][tap][channel], and what may be read behind them.
  int64_t size() const;
  void unpack(uint8_t* bytes, const Host& host) const;

  // Rows are filters: [group][panel][plane][tap][quad of channels][12][4].
  int64_t filter_panels_size() const;
  void pack_filters(const uint8_t* bytes, uint8_t* out, const Host& host) const;

  // Rows are channels, of some taps: [group][panel][plane][tap][quad of filters][12][4].
  int64_t channel_panels_size(int64_t taps) const;
  void pack_channels(const uint8_t* bytes, const std::vector<int64_t>& taps, uint8_t* out, const Host& host) const;

 private:
  const uint8_t* plane(const uint8_t* bytes, int64_t plane, int64_t group) const {
    return bytes + (plane * groups_ + group) * filters_ * line_;
  }

  const uint8_t* codes_;
  int64_t groups_, filters_, channels_, taps_, line_;  // line: bytes of a filter
  const Planes& planes_;
};

}  // namespace fourbit
