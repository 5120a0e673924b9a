// Winograd's F(2x2, 3x3) in integers: a 3x3 convolution with stride 1 in 16 products where the direct
// one takes 36. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
//
//   forward            Y  = A' [(G g G') * (B' d B)] A     d: 4x4 inputs, g: 3x3 weights, Y: 2x2 outputs
//   gradient to g      dg = G' [(A dy A') * (B' d B)] G    the same bilinear form, read the other way
//
//   B' = [1 0 -1 0;  0 1 1 0;  0 -1 1 0;  0 1 0 -1]     A' = [1 1 1 0;  0 1 -1 -1]
//   2G = [2 0 0;  1 1 1;  1 -1 1;  0 0 2]
//
// 2G instead of G makes everything an integer and the result four times too large: a shift by two bits
// at the end, which drops zeros only. Sums are modulo 2^32, so that nothing on the way may overflow as long as
// four times the result fits. So the bits are those of the direct convolution.
#pragma once

#include <cstdint>

#include "kernels/dot/dot.h"
#include "kernels/variants.h"

namespace fourbit {

constexpr int kPoints = 16;       // 4x4: of a transformed tile
constexpr int kVectorBytes = 64;  // pixels of channel-last images are multiples of this
// Transformed inputs of 8 bits are stored with this added, as the micro-kernel wants them unsigned.
constexpr int kInputShift = 64;

// Functions of one instruction set. Images are channel-last: pixel (i, j) of a tile begins at
// tile + i * row + j * channels, a multiple of kVectorBytes. Point p of what is transformed goes to out + p * plane.
struct WinogradKernels {
  // B' d B + 64 of a 4x4 tile within -16..16
  void (*input8)(const int8_t* tile, int64_t row, int64_t channels, uint8_t* out, int64_t plane);
  // B' d B of a 4x4 tile within -16..16
  void (*signed8)(const int8_t* tile, int64_t row, int64_t channels, int8_t* out, int64_t plane);
  // B' d B of a 4x4 tile within -8191..8191
  void (*input16)(const int16_t* tile, int64_t row, int64_t channels, int16_t* out, int64_t plane);
  // A dy A' of a 2x2 tile within -8191..8191
  void (*gradient16)(const int16_t* tile, int64_t row, int64_t channels, int16_t* out, int64_t plane);
  // 4 G g G'; tap t of channel c is taps[t * channels + c], within -14..14; channels are a multiple of kCols
  void (*weights)(const int8_t* taps, int64_t channels, int8_t* out, int64_t plane);
  // out[2 * i] = even[i], out[2 * i + 1] = odd[i], for each point; points are `plane` and `out_plane` elements apart.
  // pair8: the channels of `panels` panels, kCols each, which go `panel` elements apart; pair16: n channels, at least 16.
  void (*pair8)(const int8_t* even, const int8_t* odd, int64_t plane, int64_t panels, int16_t* out, int64_t panel,
                int64_t out_plane);
  void (*pair16)(const int16_t* even, const int16_t* odd, int64_t plane, int64_t n, int16_t* out, int64_t out_plane);
  // A' m A / 4 of `tiles` <= 8 neighbours, as numbers: pixel (i, j) of channel c is y[c * channel + i * row + j].
  // Point p of (tile, channel) is m[p * plane + tile * kCols + channel]. Of kCols channels, the first `channels`
  // are written; of 2 * tiles columns and two rows, the first `columns` and `rows`.
  void (*output)(const int32_t* m, int64_t plane, int64_t tiles, int64_t channels, int64_t columns, int64_t rows,
                 float scale, float* y, int64_t channel, int64_t row);
  // G' m G of four times the right size, times scale: tap t of channel c < channels is y[9 * c + t]; point p of c is
  // m[p * plane + c]
  void (*taps32)(const int32_t* m, int64_t plane, int64_t channels, float scale, float* y);
  void (*taps64)(const int64_t* m, int64_t plane, int64_t channels, float scale, float* y);
  // To be called by a thread after its last `output`, before others read.
  void (*settle)();
  // c[i][j] = start[i][j] + sum over k of a[i][k] * b[k][j],  for i < rows (4, 8 or 12), j < kCols, modulo 2^32.
  // Four bytes of k are a step, as in `Dot`: four of 8 bits (a unsigned, |a[i][k] * b[k][j]| < 2^14), or two of 16.
  // They are at a + i * a_row + step * a_step, and at b + (step * kCols + j) * 4; start_row and c_row count elements.
  using Points = void (*)(const uint8_t* a, int64_t a_row, int64_t a_step, const uint8_t* b, int64_t steps,
                          const int32_t* start, int64_t start_row, int32_t* c, int64_t c_row, int64_t rows);
  Points dot8, dot16;
};

FOURBIT_TABLE(WinogradKernels, winograd)

}  // namespace fourbit
