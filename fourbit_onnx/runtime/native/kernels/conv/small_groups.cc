#include "kernels/conv/small_groups.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/bytes/bytes.h"
#include "kernels/conv/sources.h"
#include "kernels/direct/direct.h"

namespace fourbit {
namespace {

// Codes to values, image by image.
class Decoder {
 public:
  Decoder(const Operand& x, int64_t pixels)
      : x_(x), unpack_(best_unpack()), kernels_(best_direct()), bytes_(pixels),
        others_(x.others == nullptr ? 0 : pixels) {
    for (int i = 0; i < 16; ++i) {
      identity_[i] = static_cast<uint8_t>(i);
      table_[i] = static_cast<int16_t>(x.values[i] - x.zero_point);
      if (x.others != nullptr) other_table_[i] = static_cast<int16_t>((*x.other_values)[i]);
    }
  }
  void operator()(int64_t first, int64_t count, int16_t* values) const {
    look_up(x_.codes, first, count, table_, values);
    if (x_.others == nullptr) return;
    look_up(x_.others, first, count, other_table_, others_.data());
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<int16_t>(values[i] + others_.data()[i]);
  }

 private:
  void look_up(const uint8_t* codes, int64_t first, int64_t count, const int16_t* table, int16_t* values) const {
    unpack_(codes, first, count, identity_, bytes_.data());
    kernels_.look_up(bytes_.data(), count, table, values);
  }

  const Operand& x_;
  const Unpack unpack_;
  const DirectKernels& kernels_;
  const Buffer<uint8_t> bytes_;
  const Buffer<int16_t> others_;  // values
  uint8_t identity_[16];
  int16_t table_[16], other_table_[16];
};

// `count` images of a group, padded: [channel][grid.size], and slack.
void decode_images(const Decoder& decode, int64_t first, int64_t count, const Grid& grid, int16_t* flat, int16_t* out) {
  const int64_t pixels = product(grid.source);
  std::memset(out, 0, (count * grid.size + kDirectSlack) * sizeof(int16_t));
  for (int64_t c = 0; c < count; ++c) {
    decode((first + c) * pixels, pixels, flat);
    place_rows(flat, grid, out + c * grid.size);
  }
}

std::vector<int32_t> decode_weights(const Operand& w, int64_t count) {
  std::vector<int32_t> weights(count);
  for (int64_t i = 0; i < count; ++i) {
    weights[i] = static_cast<int32_t>(w.values[nibble(w.codes, i)] - w.zero_point);
  }
  return weights;
}

// Where the windows of a row lie in the output image.
int64_t output_place(const Grid& grid, int64_t row, const Dims& spatial, const Dims& step, const Dims& phase) {
  int64_t place = phase.back(), pitch = spatial.back();
  for (size_t d = spatial.size() - 1; d-- > 0;) {
    place += (row % grid.windows[d] * step[d] + phase[d]) * pitch;
    row /= grid.windows[d];
    pitch *= spatial[d];
  }
  return place;
}

}  // namespace

bool is_small(const ConvGeometry& g, const Operand& a, const Operand& b) {
  if (g.channels * g.filters > 4) return false;
  const int64_t x = largest(a), y = largest(b);
  const int64_t terms = std::max({g.channels * product(g.kernel), g.filters * product(g.kernel), product(g.output)});
  return x < 32768 && y < 32768 && x * y < (int64_t{1} << 31) / std::max<int64_t>(1, terms);
}

void small_conv(const ConvGeometry& g, const Operand& x, const Operand& w, float scale, float* y, const Host& host) {
  const Grid grid = forward_grid(g);
  const int64_t taps = product(g.kernel), terms = g.channels * taps, length = grid.row_length();
  const std::vector<int32_t> weights = decode_weights(w, g.groups * g.filters * terms);
  parallel_ranges(host, g.batch * g.groups, [&](int64_t first, int64_t last) {
    const DirectKernels& k = best_direct();
    const Decoder decode(x, product(grid.source));
    const Buffer<int16_t> flat(product(grid.source)), image(g.channels * grid.size + kDirectSlack);
    std::vector<const int16_t*> rows(terms);
    for (int64_t task = first; task < last; ++task) {
      decode_images(decode, task * g.channels, g.channels, grid, flat.data(), image.data());
      for (int64_t row = 0; row < grid.rows(); ++row) {
        const int16_t* corner = image.data() + grid.row_place(row);
        for (int64_t t = 0; t < terms; ++t) rows[t] = corner + t / taps * grid.size + grid.taps[t % taps];
        for (int64_t f = 0; f < g.filters; ++f) {
          float* to = y + ((task * g.filters + f) * grid.rows() + row) * length;
          k.weighted(rows.data(), weights.data() + (task % g.groups * g.filters + f) * terms, terms, length, scale, to, 1);
        }
      }
    }
  });
}

void small_conv_input_grad(const ConvGeometry& g, const Operand& dy, const Operand& w, float scale, float* dx,
                           const Host& host) {
  const std::vector<Phase> phases = backward_phases(g);
  const Grid& frame = phases.front().grid;
  const bool flat_image = frame.windows.size() != g.input.size();
  const Dims spatial = flat_image ? Dims{product(g.input)} : g.input, step = flat_image ? Dims{1} : g.strides;
  const int64_t taps = product(g.kernel), pixels = product(g.input);
  const std::vector<int32_t> weights = decode_weights(w, g.groups * g.filters * g.channels * taps);
  parallel_ranges(host, g.batch * g.groups, [&](int64_t first, int64_t last) {
    const DirectKernels& k = best_direct();
    const Decoder decode(dy, product(frame.source));
    const Buffer<int16_t> flat(product(frame.source)), image(g.filters * frame.size + kDirectSlack);
    std::vector<const int16_t*> rows(g.filters * taps);
    std::vector<int32_t> used(g.filters * taps);
    for (int64_t task = first; task < last; ++task) {
      decode_images(decode, task * g.filters, g.filters, frame, flat.data(), image.data());
      for (const Phase& phase : phases) {
        const Grid& grid = phase.grid;
        const int64_t mine = static_cast<int64_t>(phase.taps.size()), terms = g.filters * mine;
        if (product(grid.windows) == 0) continue;
        for (int64_t row = 0; row < grid.rows(); ++row) {
          const int16_t* corner = image.data() + grid.row_place(row);
          for (int64_t t = 0; t < terms; ++t) rows[t] = corner + t / mine * grid.size + grid.taps[t % mine];
          const int64_t place = output_place(grid, row, spatial, step, phase.phase);
          for (int64_t c = 0; c < g.channels; ++c) {
            for (int64_t t = 0; t < terms; ++t) {
              const int64_t filter = task % g.groups * g.filters + t / mine;
              used[t] = weights[(filter * g.channels + c) * taps + phase.taps[t % mine]];
            }
            k.weighted(rows.data(), used.data(), terms, grid.row_length(), scale,
                       dx + (task * g.channels + c) * pixels + place, step.back());
          }
        }
      }
    }
  });
}

void small_conv_weight_grad(const ConvGeometry& g, const Operand& x, const Operand& dy, float scale, float* dw,
                            const Host& host) {
  const Grid grid = forward_grid(g);
  const int64_t taps = product(g.kernel), count = g.channels * taps, length = grid.row_length();
  const int64_t pixels = product(grid.windows);
  parallel_ranges(host, g.groups, [&](int64_t first, int64_t last) {
    const DirectKernels& k = best_direct();
    const Decoder decode_x(x, product(grid.source)), decode_dy(dy, pixels);
    const Buffer<int16_t> flat(product(grid.source)), image(g.channels * grid.size + kDirectSlack);
    const Buffer<int16_t> gradient(pixels);
    std::vector<int64_t> sums(g.filters * count);
    for (int64_t group = first; group < last; ++group) {
      std::fill(sums.begin(), sums.end(), 0);
      for (int64_t n = 0; n < g.batch; ++n) {
        const int64_t task = n * g.groups + group;
        decode_images(decode_x, task * g.channels, g.channels, grid, flat.data(), image.data());
        for (int64_t f = 0; f < g.filters; ++f) {
          decode_dy((task * g.filters + f) * pixels, pixels, gradient.data());
          for (int64_t row = 0; row < grid.rows(); ++row) {
            const int16_t* corner = image.data() + grid.row_place(row);
            for (int64_t t = 0; t < count; ++t) {
              sums[f * count + t] += k.dot(corner + t / taps * grid.size + grid.taps[t % taps],
                                           gradient.data() + row * length, length);
            }
          }
        }
      }
      float* to = dw + group * g.filters * count;
      for (size_t i = 0; i < sums.size(); ++i) to[i] = static_cast<float>(sums[i]) * scale;
    }
  });
}

}  // namespace fourbit
