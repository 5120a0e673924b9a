#include "kernels/conv/small_groups.h"

#include <algorithm>
#include <optional>

#include "kernels/bytes/bytes.h"
#include "kernels/conv/rows.h"
#include "kernels/conv/weave.h"
#include "kernels/direct/direct.h"

namespace fourbit {
namespace {

constexpr int64_t kExact = int64_t{1} << 24;  // below it float32 has every whole number
constexpr int64_t kPixels = 2048;             // of the images that are decoded at a time, about

int64_t whole_lanes(int64_t n) { return divide_up(n, kDirectLanes) * kDirectLanes; }

// How many images of some size to take at a time, of `all`.
int64_t some_of(int64_t all, int64_t pixels) {
  return std::max<int64_t>(1, std::min(all, kPixels / std::max<int64_t>(1, pixels)));
}

// Codes of images to whole numbers, with what is between the rows left as it is.
class Decoder {
 public:
  // Of `images` at a time; row i of an image goes to rows[i].
  Decoder(const Operand& x, std::vector<int64_t> rows, int64_t length, int64_t images)
      : x_(x), rows_(std::move(rows)), length_(length), unpack_(best_unpack()), kernels_(best_direct()),
        low_(images * pixels()), high_(images * pixels()), values_(images * pixels()) {
    for (int i = 0; i < 16; ++i) {
      set(first_, i, x.values[i] - x.zero_point);
      if (x.others != nullptr) set(second_, i, (*x.other_values)[i]);
    }
  }

  // Images first, first + 1, ..., each `size` from the one before. `place(row, to)` puts a row.
  template <typename Place>
  void operator()(int64_t first, int64_t count, float* out, int64_t size, const Place& place) const {
    look_up(x_.codes, first_, first * pixels(), count * pixels(), false);
    if (x_.others != nullptr) look_up(x_.others, second_, first * pixels(), count * pixels(), true);
    const float* row = values_.data();
    for (int64_t i = 0; i < count; ++i, out += size) {
      for (const int64_t to : rows_) {
        place(row, out + to);
        row += length_;
      }
    }
  }

 private:
  struct Table {
    uint8_t low[16], high[16];
    bool wide = false;
  };

  int64_t pixels() const { return static_cast<int64_t>(rows_.size()) * length_; }

  static void set(Table& table, int code, int64_t value) {
    table.low[code] = static_cast<uint8_t>(value & 255);
    table.high[code] = static_cast<uint8_t>(value >> 8 & 255);
    table.wide = table.wide || value < -128 || value > 127;
  }

  void look_up(const uint8_t* codes, const Table& table, int64_t first, int64_t count, bool add) const {
    unpack_(codes, first, count, table.low, low_.data());
    if (table.wide) unpack_(codes, first, count, table.high, high_.data());
    kernels_.to_floats(low_.data(), table.wide ? high_.data() : nullptr, count, add, values_.data());
  }

  const Operand& x_;
  const std::vector<int64_t> rows_;
  const int64_t length_;
  const Unpack unpack_;
  const DirectKernels& kernels_;
  const Buffer<uint8_t> low_, high_;
  const Buffer<float> values_;
  Table first_, second_;
};

// Padded images of some groups at a time, and the numbers that stand for padding and beyond the end.
class PaddedImages {
 public:
  PaddedImages(const Operand& x, const Grid& grid, int64_t images)
      : grid_(grid), decode_(x, grid.source_rows(), grid.source.back(), images),
        images_(images * grid.size + kDirectLanes) {
    std::fill_n(images_.data(), images * grid.size + kDirectLanes, 0.0f);
  }
  void decode(int64_t first, int64_t count) const {
    decode_(first, count, images_.data(), grid_.size,
            [&](const float* row, float* to) { deal_row(row, grid_.source.back(), grid_, to); });
  }
  const float* image(int64_t i) const { return images_.data() + i * grid_.size; }

 private:
  const Grid& grid_;
  const Decoder decode_;
  const Buffer<float> images_;
};

std::vector<float> decode_weights(const Operand& w, int64_t count) {
  std::vector<float> weights(count);
  for (int64_t i = 0; i < count; ++i) weights[i] = static_cast<float>(w.values[nibble(w.codes, i)] - w.zero_point);
  return weights;
}

// Where the taps of all images of a group are, from the first window of the first.
std::vector<int64_t> term_places(const Grid& grid, int64_t images) {
  std::vector<int64_t> places;
  for (int64_t i = 0; i < images; ++i) {
    for (const int64_t tap : grid.taps) places.push_back(i * grid.size + tap);
  }
  return places;
}

std::vector<int64_t> window_rows(const Grid& grid) {
  std::vector<int64_t> rows(grid.rows());
  for (size_t row = 0; row < rows.size(); ++row) rows[row] = grid.row_place(static_cast<int64_t>(row));
  return rows;
}

}  // namespace

bool is_small(const ConvGeometry& g, const Operand& a, const Operand& b) {
  if (g.channels * g.filters > 4) return false;
  const int64_t x = largest(a), y = largest(b);
  return x < 32768 && y < 32768 && x * y * std::max(g.channels, g.filters) * product(g.kernel) < kExact;
}

void small_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y, const Host& host) {
  const Grid grid = forward_grid(g);
  const std::vector<int64_t> places = term_places(grid, g.channels), rows = window_rows(grid);
  const int64_t terms = static_cast<int64_t>(places.size()), length = grid.row_length(), reach = grid.reach();
  const std::vector<float> weights = decode_weights(w, g.groups * g.filters * terms);
  parallel_ranges(host, g.batch * g.groups, [&](int64_t first, int64_t last) {
    const DirectKernels& k = best_direct();
    const int64_t some = some_of(last - first, g.channels * product(grid.source));
    const PaddedImages images(x, grid, some * g.channels);
    const Buffer<float> sums(whole_lanes(reach));
    float* to = y + first * g.filters * product(grid.windows);
    for (int64_t task = first; task < last; ++task) {
      const int64_t i = (task - first) % some;
      if (i == 0) images.decode(task * g.channels, std::min(some, last - task) * g.channels);
      for (int64_t f = 0; f < g.filters; ++f) {
        const float* by = weights.data() + (task % g.groups * g.filters + f) * terms;
        k.weighted(images.image(i * g.channels), places.data(), by, terms, reach, scale, sums.data());
        for (const int64_t row : rows) {
          copy_row(sums.data() + row, length, to);
          to += length;
        }
      }
    }
  });
}

void small_conv_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                           const Host& host) {
  const std::vector<Phase> phases = backward_phases(g);
  const Grid& frame = phases.front().grid;
  const int64_t taps = product(g.kernel), pixels = product(g.input), count = static_cast<int64_t>(phases.size());
  const std::vector<float> weights = decode_weights(w, g.groups * g.filters * g.channels * taps);
  std::vector<std::vector<int64_t>> places;
  std::vector<std::vector<float>> used;  // of a phase: [group][channel][filter][tap in use]
  int64_t reach = 0;
  for (const Phase& phase : phases) {
    places.push_back(term_places(phase.grid, g.filters));
    used.emplace_back();
    if (product(phase.grid.windows) > 0) reach = std::max(reach, phase.grid.reach());
    for (int64_t channel = 0; channel < g.groups * g.channels; ++channel) {
      for (int64_t f = 0; f < g.filters; ++f) {
        const int64_t filter = channel / g.channels * g.filters + f;
        const float* from = weights.data() + (filter * g.channels + channel % g.channels) * taps;
        for (const int64_t tap : phase.taps) used.back().push_back(from[tap]);
      }
    }
  }
  const std::vector<int64_t> rows = window_rows(frame);
  std::optional<Weave> weave;
  if (count > 1) weave.emplace(phases, g, true);
  parallel_ranges(host, g.batch * g.groups, [&](int64_t first, int64_t last) {
    const DirectKernels& k = best_direct();
    const int64_t some = some_of(last - first, g.filters * product(frame.source)), room = whole_lanes(reach);
    const PaddedImages images(dy, frame, some * g.filters);
    const Buffer<float> sums(count * room);
    std::vector<const float*> results(count);
    for (int64_t i = 0; i < count; ++i) results[i] = places[i].empty() && count > 1 ? nullptr : sums.data() + i * room;
    float* to = dx + first * g.channels * pixels;
    for (int64_t task = first; task < last; ++task) {
      const int64_t i = (task - first) % some;
      if (i == 0) images.decode(task * g.filters, std::min(some, last - task) * g.filters);
      for (int64_t c = 0; c < g.channels; ++c, to += pixels) {
        for (int64_t p = 0; p < count; ++p) {
          if (results[p] == nullptr || product(phases[p].grid.windows) == 0) continue;
          const int64_t terms = static_cast<int64_t>(places[p].size());
          const float* by = used[p].data() + (task % g.groups * g.channels + c) * terms;
          k.weighted(images.image(i * g.filters), places[p].data(), by, terms, phases[p].grid.reach(), scale,
                     sums.data() + p * room);
        }
        if (weave) {
          (*weave)(results.data(), to);
          continue;
        }
        for (size_t row = 0; row < rows.size(); ++row) {
          copy_row(sums.data() + rows[row], frame.row_length(), to + row * frame.row_length());
        }
      }
    }
  });
}

void small_conv_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                            const Host& host) {
  const Grid grid = forward_grid(g);
  const std::vector<int64_t> places = term_places(grid, g.channels), rows = window_rows(grid);
  const int64_t terms = static_cast<int64_t>(places.size()), length = grid.row_length(), size = whole_lanes(grid.reach());
  // How many products a lane may add before its sum might not be exact.
  const int64_t most = (kExact - 1) / std::max<int64_t>(1, largest(x) * largest(dy));
  parallel_ranges(host, g.groups, [&](int64_t first, int64_t last) {
    const DirectKernels& k = best_direct();
    const int64_t some = some_of(last - first, std::max(g.channels, g.filters) * product(grid.source));
    const PaddedImages images(x, grid, some * g.channels);
    const Decoder decode(dy, rows, length, some * g.filters);
    const Buffer<float> gradients(some * g.filters * size), sums(some * g.filters * terms * kDirectLanes);
    std::fill_n(gradients.data(), some * g.filters * size, 0.0f);
    std::vector<int64_t> totals(some * g.filters * terms);
    for (int64_t group = first; group < last; group += some) {
      const int64_t count = std::min(some, last - group), all = count * g.filters * terms;
      int64_t added = 0;
      std::fill(totals.begin(), totals.end(), 0);
      std::fill_n(sums.data(), all * kDirectLanes, 0.0f);
      const auto settle = [&] {
        for (int64_t i = 0; i < all * kDirectLanes; ++i) totals[i / kDirectLanes] += static_cast<int64_t>(sums.data()[i]);
        std::fill_n(sums.data(), all * kDirectLanes, 0.0f);
        added = 0;
      };
      for (int64_t n = 0; n < g.batch; ++n) {
        const int64_t task = n * g.groups + group;
        images.decode(task * g.channels, count * g.channels);
        decode(task * g.filters, count * g.filters, gradients.data(), size,
               [&](const float* row, float* to) { copy_row(row, length, to); });
        for (int64_t at = 0; at < size;) {
          if (added == most) settle();
          const int64_t part = std::min(size - at, (most - added) * kDirectLanes);
          for (int64_t i = 0; i < count * g.filters; ++i) {
            k.correlate(images.image(i / g.filters * g.channels) + at, places.data(), terms,
                        gradients.data() + i * size + at, part, sums.data() + i * terms * kDirectLanes);
          }
          added += part / kDirectLanes;
          at += part;
        }
      }
      settle();
      float* to = dw + group * g.filters * terms;
      for (int64_t i = 0; i < all; ++i) to[i] = static_cast<float>(totals[i]) * scale;
    }
  });
}

}  // namespace fourbit
