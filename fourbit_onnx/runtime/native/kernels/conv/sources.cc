#include "kernels/conv/sources.h"

#include <algorithm>
#include <cstring>

#include "kernels/bytes/bytes.h"
#include "kernels/conv/rows.h"

namespace fourbit {
namespace {

constexpr int64_t kSlack = 4;  // WindowRows reads whole quads

}  // namespace

int64_t quads_size(const Images& s, const Planes& planes, const Grid& grid) {
  return s.images * s.groups * planes.count * divide_up(s.channels, 4) * grid.size * 4;
}

void fill_quads(const Images& s, const Planes& planes, const Grid& grid, uint8_t* out, const Host& host) {
  const int64_t quads = divide_up(s.channels, 4), pixels = product(grid.source), length = grid.source.back();
  const std::vector<int64_t> rows = grid.source_rows();
  parallel_ranges(host, s.images * s.groups * quads, [&](int64_t first, int64_t last) {
    const UnpackPlane unpack;
    const Interleave interleave = best_interleave();
    Buffer<uint8_t> bytes(4 * pixels);
    Buffer<uint32_t> words(pixels);
    for (int64_t task = first; task < last; ++task) {
      const int64_t quad = task % quads, image_group = task / quads;
      const int64_t channel = (s.first * s.groups + image_group) * s.channels + 4 * quad;
      const int64_t present = std::min<int64_t>(4, s.channels - 4 * quad);
      for (int p = 0; p < planes.count; ++p) {
        unpack(s.operand, channel * pixels, present * pixels, planes.plane[p], bytes.data());
        std::memset(bytes.data() + present * pixels, 0, (4 - present) * pixels);
        const uint8_t* lines[4];
        for (int j = 0; j < 4; ++j) lines[j] = bytes.data() + j * pixels;
        interleave(lines, pixels, reinterpret_cast<uint8_t*>(words.data()));
        uint8_t* place = out + ((image_group * planes.count + p) * quads + quad) * grid.size * 4;
        uint32_t* image = reinterpret_cast<uint32_t*>(place);
        std::memset(image, 0, grid.size * 4);  // the signed side pads with 0
        for (size_t row = 0; row < rows.size(); ++row) deal_row(words.data() + row * length, length, grid, image + rows[row]);
      }
    }
  });
}

WindowColumns::WindowColumns(const Images& images, int planes, const Grid& grid, const uint8_t* quads)
    : images_(images),
      grid_(grid),
      quads_(quads),
      planes_(planes),
      channel_quads_(divide_up(images.channels, 4)),
      cols_(images.images * product(grid.windows)) {}

const uint8_t* WindowColumns::panel(int64_t group, int64_t panel, int plane, int64_t first, int64_t steps,
                                    uint8_t* scratch) const {
  // The columns of a panel lie in a few rows of windows, each contiguous for every tap.
  struct Run {
    const uint32_t* from;
    int64_t to, count;
  } runs[kCols];
  int64_t count = 0;
  const int64_t plane_words = channel_quads_ * grid_.size, image_words = images_.groups * planes_ * plane_words;
  const uint32_t* words = reinterpret_cast<const uint32_t*>(quads_) + (group * planes_ + plane) * plane_words;
  const int64_t length = grid_.row_length(), rows = grid_.rows();
  const int64_t end = std::min<int64_t>(kCols, cols_ - panel * kCols);
  for (int64_t to = 0; to < end;) {
    const int64_t column = panel * kCols + to, row = column / length, at = column % length;
    const int64_t n = std::min(length - at, end - to);
    runs[count++] = {words + row / rows * image_words + grid_.row_place(row % rows) + at, to, n};
    to += n;
  }
  uint32_t* out = reinterpret_cast<uint32_t*>(scratch);
  for (int64_t step = first; step < first + steps; ++step, out += kCols) {
    const int64_t offset = step % channel_quads_ * grid_.size + grid_.taps[step / channel_quads_];
    for (int64_t r = 0; r < count; ++r) copy_row(runs[r].from + offset, runs[r].count, out + runs[r].to);
    if (end < kCols) std::memset(out + end, 0, (kCols - end) * 4);
  }
  return scratch;
}

int64_t bytes_size(const Images& s, const Planes& planes, const Grid& grid) {
  return s.images * s.groups * s.channels * planes.count * (grid.size + kSlack);
}

void fill_bytes(const Images& s, const Planes& planes, const Grid& grid, uint8_t* out, const Host& host) {
  const int64_t pixels = product(grid.source), size = grid.size + kSlack, length = grid.source.back();
  const std::vector<int64_t> rows = grid.source_rows();
  parallel_ranges(host, s.images * s.groups * s.channels, [&](int64_t first, int64_t last) {
    const UnpackPlane unpack;
    Buffer<uint8_t> bytes(pixels);
    for (int64_t task = first; task < last; ++task) {
      const int64_t channel = s.first * s.groups * s.channels + task;
      for (int p = 0; p < planes.count; ++p) {
        unpack(s.operand, channel * pixels, pixels, planes.plane[p], bytes.data());
        uint8_t* image = out + (task * planes.count + p) * size;
        std::memset(image, planes.plane[p].padding, size);
        for (size_t row = 0; row < rows.size(); ++row) deal_row(bytes.data() + row * length, length, grid, image + rows[row]);
      }
    }
  });
}

WindowRows::WindowRows(const Images& images, int planes, const Grid& grid, const uint8_t* bytes)
    : images_(images),
      grid_(grid),
      bytes_(bytes),
      planes_(planes),
      image_bytes_(grid.size + kSlack),
      window_rows_(grid.rows()),
      row_steps_(divide_up(grid.row_length(), 4)) {}

const uint8_t* WindowRows::panel(int64_t group, int64_t panel, int plane, int64_t first, int64_t steps,
                                 uint8_t* scratch) const {
  const uint8_t* rows[kRows];
  const int64_t taps = static_cast<int64_t>(grid_.taps.size()), last_row = images_.channels * taps - 1;
  for (int i = 0; i < kRows; ++i) {
    const int64_t row = std::min(panel * kRows + i, last_row);  // past the end: anything
    const int64_t channel = group * images_.channels + row / taps;
    rows[i] = bytes_ + (channel * planes_ + plane) * image_bytes_ + grid_.taps[row % taps];
  }
  const int64_t stride = images_.groups * images_.channels * planes_ * image_bytes_;
  uint8_t* out = scratch;
  for (int64_t step = first; step < first + steps;) {
    const int64_t row = step / row_steps_, at = step % row_steps_;
    const int64_t count = std::min(row_steps_ - at, first + steps - step);
    int64_t from = row / window_rows_ * stride + grid_.row_place(row % window_rows_) + 4 * at;
    for (int64_t s = 0; s < count; ++s, from += 4, out += kStepA) {
      for (int i = 0; i < kRows; ++i) std::memcpy(out + 4 * i, rows[i] + from, 4);
    }
    step += count;
  }
  return scratch;
}

int64_t window_steps(int64_t images, const Grid& grid) {
  return images * grid.rows() * divide_up(grid.row_length(), 4);
}

void pack_channels(const Images& s, const Planes& planes, const Grid& grid, uint8_t* out, const Host& host) {
  const int64_t panels = divide_up(s.channels, kCols), pixels = product(grid.windows);
  const int64_t length = grid.row_length(), rows = grid.rows(), row_steps = divide_up(length, 4);
  const int64_t image_bytes = rows * row_steps * kStepB, plane_bytes = s.images * image_bytes;
  parallel_ranges(host, s.groups * panels * s.images, [&](int64_t first, int64_t last) {
    const UnpackPlane unpack;
    Buffer<uint8_t> bytes(kCols * pixels);
    for (int64_t task = first; task < last; ++task) {
      const int64_t image = task % s.images, panel = task / s.images % panels, group = task / s.images / panels;
      const int64_t channel = ((s.first + image) * s.groups + group) * s.channels + panel * kCols;
      const int64_t present = std::min<int64_t>(kCols, s.channels - panel * kCols);
      for (int p = 0; p < planes.count; ++p) {
        unpack(s.operand, channel * pixels, present * pixels, planes.plane[p], bytes.data());
        std::memset(bytes.data() + present * pixels, 0, (kCols - present) * pixels);
        uint8_t* to = out + ((group * panels + panel) * planes.count + p) * plane_bytes + image * image_bytes;
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t at = 0; at < length; at += 4, to += kStepB) {
            const uint8_t* from = bytes.data() + row * length + at;
            if (at + 4 <= length) {
              for (int j = 0; j < kCols; ++j) std::memcpy(to + 4 * j, from + j * pixels, 4);
            } else {
              std::memset(to, 0, kStepB);
              for (int j = 0; j < kCols; ++j) std::memcpy(to + 4 * j, from + j * pixels, length - at);
            }
          }
        }
      }
    }
  });
}

}  // namespace fourbit
