#include "kernels/conv/weights.h"

#include "kernels/bytes/bytes.h"

namespace fourbit {

Weights::Weights(const uint8_t* codes, int64_t groups, int64_t filters, int64_t channels, int64_t taps,
                 const Planes& planes)
    : codes_(codes), groups_(groups), filters_(filters), channels_(channels), taps_(taps), line_(channels * taps),
      planes_(planes) {}

// A panel turns whole lines, and is filled up to them.
int64_t Weights::size() const { return planes_.count * groups_ * filters_ * line_ + (kTurnLines + kRows) * line_ + 64; }

void Weights::unpack(uint8_t* bytes, const Host& host) const {
  const int64_t rows = groups_ * filters_;
  parallel_ranges(host, rows, [&](int64_t first, int64_t last) {
    const Unpack unpack = best_unpack();
    const DealTaps deal = best_deal_taps();
    for (int p = 0; p < planes_.count; ++p) {
      for (int64_t row = first; row < last; ++row) {
        uint8_t* to = bytes + (p * rows + row) * line_;
        if (taps_ == 1) {
          unpack(codes_, row * line_, line_, planes_.plane[p].table, to);
        } else {
          deal(codes_, row * line_, channels_, taps_, planes_.plane[p].table, to, channels_);
        }
      }
    }
  });
}

int64_t Weights::filter_panels_size() const {
  return groups_ * divide_up(filters_, kRows) * planes_.count * taps_ * divide_up(channels_, 4) * kStepA;
}

void Weights::pack_filters(const uint8_t* bytes, uint8_t* out, const Host& host) const {
  const int64_t panels = divide_up(filters_, kRows), tap_bytes = divide_up(channels_, 4) * kStepA;
  parallel_ranges(host, groups_ * panels * planes_.count, [&](int64_t first, int64_t last) {
    const Turn turn = best_turn();
    for (int64_t task = first; task < last; ++task) {
      const int64_t p = task % planes_.count, panel = task / planes_.count % panels;
      const uint8_t* from = plane(bytes, p, task / planes_.count / panels) + panel * kRows * line_;
      for (int64_t tap = 0; tap < taps_; ++tap) {
        turn_panel(turn, from + tap * channels_, line_, divide_up(channels_, 4), kRows,
                   out + (task * taps_ + tap) * tap_bytes);
      }
    }
  });
}

int64_t Weights::channel_panels_size(int64_t taps) const {
  return groups_ * divide_up(channels_, kRows) * planes_.count * taps * divide_up(filters_, 4) * kStepA;
}

void Weights::pack_channels(const uint8_t* bytes, const std::vector<int64_t>& taps, uint8_t* out,
                            const Host& host) const {
  const int64_t panels = divide_up(channels_, kRows), quads = divide_up(filters_, 4);
  const int64_t panel_bytes = static_cast<int64_t>(taps.size()) * quads * kStepA;
  parallel_ranges(host, groups_ * panels * planes_.count, [&](int64_t first, int64_t last) {
    const Interleave interleave = best_interleave();
    for (int64_t task = first; task < last; ++task) {
      const int64_t p = task % planes_.count, panel = task / planes_.count % panels;
      const uint8_t* corner = plane(bytes, p, task / planes_.count / panels) + panel * kRows;
      uint8_t* to = out + task * panel_bytes;
      for (const int64_t tap : taps) {
        for (int64_t quad = 0; quad < quads; ++quad, to += kStepA) {
          const uint8_t* from = corner + 4 * quad * line_ + tap * channels_;
          const uint8_t* const rows[] = {from, from + line_, from + 2 * line_, from + 3 * line_};
          interleave(rows, kRows, to);
        }
      }
    }
  });
}

}  // namespace fourbit
