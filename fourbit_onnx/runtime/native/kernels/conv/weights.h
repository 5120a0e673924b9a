// A kernel tensor as the unsigned side: rows are filters (forward) or channels (gradient).
#pragma once

#include <cstdint>
#include <vector>

#include "base/host.h"
#include "kernels/gemm/gemm.h"

namespace fourbit {

// Which byte of a group's weights is (row, channel, tap): row * row_stride + channel * channel_stride + taps[tap].
struct WeightOrder {
  int64_t rows, channels, row_stride, channel_stride;
  const std::vector<int64_t>& taps;
};

// Bytes of all planes, in the order of the codes: [plane][element].
void unpack_weights(const uint8_t* codes, int64_t count, const Planes& planes, uint8_t* bytes, const Host& host);

// [group][panel][plane][tap][quad of channels][12][4]
int64_t packed_weights_size(const WeightOrder& order, int64_t groups, const Planes& planes);
void pack_weights(const uint8_t* bytes, int64_t groups, int64_t group_size, const Planes& planes,
                  const WeightOrder& order, uint8_t* out, const Host& host);

}  // namespace fourbit
