// From the phases of a gradient to an image.
#pragma once

#include <cstdint>
#include <vector>

#include "base/host.h"
#include "kernels/conv/grid.h"

namespace fourbit {

// What a convolution with strides sends back to its input: input coordinates stride * m + phase are a product of
// their own for each phase (`backward_phases`), whose results lie together here and are put in their places at last. To
// store them there at once would be one number at a time.
//
//   results[phase]  [group][channel][image][window], windows of the phase's grid
//   dx              [image][group][channel][input...], all of it written
void weave(const std::vector<Phase>& phases, const std::vector<const float*>& results, const ConvGeometry& g,
           int64_t images, float* dx, const Host& host);

}  // namespace fourbit
