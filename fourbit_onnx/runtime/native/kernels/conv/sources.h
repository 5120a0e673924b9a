// Images as operands: unpacked once into padded bytes, from which panels are packed block by block.
// The matrix of windows (im2col) never exists as a whole.
#pragma once

#include <cstdint>

#include "base/host.h"
#include "kernels/conv/grid.h"
#include "kernels/gemm/gemm.h"

namespace fourbit {

// Code images [batch, groups, channels, spatial...], of which `images` from `first` on are used.
struct Images {
  const Operand& operand;
  int64_t first, images, groups, channels;
};

// Quads of channels, for products over channels and taps (forward, gradient to the input):
//
//   [image][group][plane][quad of channels][grid.size][4]
int64_t quads_size(const Images& images, const Planes& planes, const Grid& grid);
void fill_quads(const Images& images, const Planes& planes, const Grid& grid, uint8_t* out, const Host& host);

// Columns are the windows of all images, in order; k runs over taps, then channels.
class WindowColumns final : public Side {
 public:
  WindowColumns(const Images& images, int planes, const Grid& grid, const uint8_t* quads);
  const uint8_t* panel(int64_t group, int64_t panel, int plane, int64_t first, int64_t steps,
                       uint8_t* scratch) const override;
  int64_t cols() const { return cols_; }

 private:
  const Images& images_;
  const Grid& grid_;
  const uint8_t* quads_;
  int64_t planes_, channel_quads_, cols_;
};

// Bytes, for products over images and windows (gradient to the weight):
//
//   [image][group][channel][plane][grid.size + slack]
int64_t bytes_size(const Images& images, const Planes& planes, const Grid& grid);
void fill_bytes(const Images& images, const Planes& planes, const Grid& grid, uint8_t* out, const Host& host);

// Rows are channels and their taps; k runs over images, rows of windows, and along a row, where
// each row is filled up to a multiple of four (with bytes that the other side multiplies by 0).
class WindowRows final : public Side {
 public:
  WindowRows(const Images& images, int planes, const Grid& grid, const uint8_t* bytes);
  const uint8_t* panel(int64_t group, int64_t panel, int plane, int64_t first, int64_t steps,
                       uint8_t* scratch) const override;

 private:
  const Images& images_;
  const Grid& grid_;
  const uint8_t* bytes_;
  int64_t planes_, image_bytes_, window_rows_, row_steps_;
};

// The other side of it: columns are channels, k as in WindowRows; [group][panel][plane][step][32][4].
int64_t window_steps(int64_t images, const Grid& grid);
void pack_channels(const Images& images, const Planes& planes, const Grid& grid, uint8_t* out, const Host& host);

}  // namespace fourbit
