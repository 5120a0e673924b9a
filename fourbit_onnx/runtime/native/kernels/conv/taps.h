// Weights of a filter by taps instead of by channels.
#pragma once

#include <cstdint>

namespace fourbit {

// to[tap * plane + channel] = values[channel * taps + tap]; the taps turned round if `turned`.
template <typename Byte>
void deal_taps(const Byte* values, int64_t channels, int64_t taps, bool turned, int64_t plane, Byte* to) {
  for (int64_t tap = 0; tap < taps; ++tap) {
    const Byte* from = values + tap;
    Byte* const line = to + (turned ? taps - 1 - tap : tap) * plane;
    for (int64_t channel = 0; channel < channels; ++channel, from += taps) line[channel] = *from;
  }
}

}  // namespace fourbit
