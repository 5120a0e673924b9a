// The geometry of a convolution, in any number of spatial dimensions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fourbit {

using Dims = std::vector<int64_t>;

int64_t product(const Dims& dims);

// As in ONNX Conv; all lists have one entry a spatial dimension (pads: begins, then ends).
struct ConvGeometry {
  int64_t batch, groups, channels, filters;  // channels and filters of one group
  Dims input, kernel, output;
  Dims strides, dilations, pads;
};

// The size of the output, or -1 if the kernel does not fit the padded input.
int64_t conv_output_size(int64_t input, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding);

// A padded source image and a grid of windows over it.
//
// Coordinate y of the padded image is the source's y - before. Window g has its corner at
// step * g; tap t of the window is at an offset from the corner. Coordinates are sorted by their
// remainders mod step, which makes an image of each combination of remainders: so the same tap of
// all windows lies in one of them, whatever the step, and that of neighbouring windows is contiguous.
//
//   place(y) = sum over d of (y[d] % step[d]) * lane[d] + y[d] / step[d] * pitch[d]
struct Grid {
  Dims source, before, extent;  // extent: of the padded image
  Dims windows, step;
  Dims pitch;        // the innermost is 1
  Dims lane;         // from one remainder to the next
  int64_t size = 0;  // elements of a padded image
  std::vector<int64_t> taps;  // offset of each tap from place(corner)

  int64_t rows() const;  // windows outside the innermost dimension
  int64_t row_length() const { return windows.back(); }
  int64_t row_place(int64_t row) const;  // place of the corner of a row's first window
  int64_t reach() const { return row_place(rows() - 1) + row_length(); }  // of all windows' corners; there are some
  int64_t place(size_t d, int64_t y) const { return y % step[d] * lane[d] + y / step[d] * pitch[d]; }
  // Where the rows of the source begin, but for the innermost coordinate, which `deal_row` knows.
  std::vector<int64_t> source_rows() const;
};

// How large a padded image must be. Several grids may share an image, and so a frame.
struct Frame {
  Dims before, extent;
};

// `offsets`: a tap's distance from the corner in each dimension, in source coordinates (so -pad for
// the first of a convolution). The frame grows until it holds every tap of every window.
void grow(Frame& frame, const Dims& source, const Dims& windows, const Dims& step, const std::vector<Dims>& offsets);

Grid make_grid(const Frame& frame, const Dims& source, const Dims& windows, const Dims& step,
               const std::vector<Dims>& offsets);

// The windows of a convolution over its input; pointwise ones become one dimension, a single row.
Grid forward_grid(const ConvGeometry& g);

// The gradient to the input, one phase of it: input coordinates stride * m + phase, which see the
// same taps of the kernel. Windows are over dy.
struct Phase {
  Grid grid;                 // windows.front() may be 0: nothing to do
  std::vector<int64_t> taps; // the kernel's taps in use, in the order of grid.taps
  Dims phase;
};
std::vector<Phase> backward_phases(const ConvGeometry& g);  // all in one frame

}  // namespace fourbit
