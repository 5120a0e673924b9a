// From the phases of a gradient to an image.
#pragma once

#include <cstdint>
#include <vector>

#include "base/host.h"
#include "kernels/conv/grid.h"

namespace fourbit {

// What a convolution with strides sends back to its input: input coordinates stride * m + phase are a product of
// their own for each phase (`backward_phases`), whose results are put in their places at last. To store them there at
// once would be one number at a time.
class Weave {
 public:
  // `padded`: rows of windows lie as in the phase's grid, else one behind the other.
  Weave(const std::vector<Phase>& phases, const ConvGeometry& g, bool padded);
  // One channel of an image, from its windows of each phase; nullptr: they are 0, as those of a phase without taps.
  void operator()(const float* const* results, float* dx) const;

 private:
  // Where a row of the image comes from: phases phase, phase + 1, ... (of the innermost dimension), places[line][i] in
  // the windows of the i-th.
  std::vector<int64_t> phase_, places_;
  int64_t stride_, length_;
};

// All images, from results that lie together:
//
//   results[phase]  [group][channel][image][window], windows of the phase's grid; nullptr: all 0
//   dx              [image][group][channel][input...], all of it written
void weave(const std::vector<Phase>& phases, const std::vector<const float*>& results, const ConvGeometry& g,
           int64_t images, float* dx, const Host& host);

}  // namespace fourbit
