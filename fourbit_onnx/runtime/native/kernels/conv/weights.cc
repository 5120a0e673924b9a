#include "kernels/conv/weights.h"

#include <algorithm>
#include <cstring>

#include "kernels/bytes/bytes.h"

namespace fourbit {

void unpack_weights(const uint8_t* codes, int64_t count, const Planes& planes, uint8_t* bytes, const Host& host) {
  parallel_ranges(host, divide_up(count, 4096), [&](int64_t first, int64_t last) {
    const Unpack unpack = best_unpack();
    const int64_t from = first * 4096, n = std::min(count, last * 4096) - from;
    for (int p = 0; p < planes.count; ++p) {
      unpack(codes, from, n, planes.plane[p].table, bytes + p * count + from);
    }
  });
}

int64_t packed_weights_size(const WeightOrder& order, int64_t groups, const Planes& planes) {
  const int64_t steps = static_cast<int64_t>(order.taps.size()) * divide_up(order.channels, 4);
  return groups * divide_up(order.rows, kRows) * planes.count * steps * kStepA;
}

void pack_weights(const uint8_t* bytes, int64_t groups, int64_t group_size, const Planes& planes,
                  const WeightOrder& order, uint8_t* out, const Host& host) {
  const int64_t panels = divide_up(order.rows, kRows), quads = divide_up(order.channels, 4);
  const int64_t taps = static_cast<int64_t>(order.taps.size()), panel_bytes = taps * quads * kStepA;
  parallel_ranges(host, groups * panels * planes.count, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t p = task % planes.count, panel = task / planes.count % panels, group = task / planes.count / panels;
      const uint8_t* from = bytes + (p * groups + group) * group_size + panel * kRows * order.row_stride;
      uint8_t* to = out + task * panel_bytes;
      const int64_t rows = std::min<int64_t>(kRows, order.rows - panel * kRows);
      if (rows < kRows || order.channels % 4 != 0) std::memset(to, 0, panel_bytes);
      const auto copy = [&](int64_t row, int64_t channel) {
        const uint8_t* source = from + row * order.row_stride + channel * order.channel_stride;
        uint8_t* place = to + (channel / 4 * kRows + row) * 4 + channel % 4;
        for (int64_t t = 0; t < taps; ++t) place[t * quads * kStepA] = source[order.taps[t]];
      };
      // The nearer dimension inside.
      if (order.row_stride > order.channel_stride) {
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t channel = 0; channel < order.channels; ++channel) copy(row, channel);
        }
      } else {
        for (int64_t channel = 0; channel < order.channels; ++channel) {
          for (int64_t row = 0; row < rows; ++row) copy(row, channel);
        }
      }
    }
  });
}

}  // namespace fourbit
