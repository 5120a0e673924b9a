#include "kernels/blocks/scales.h"

#include <algorithm>
#include <cstring>

#include "kernels/blocks/blocks.h"
#include "kernels/conv/grid.h"
#include "kernels/elements/parallel.h"
#include "ops/blocks.h"

namespace fourbit {

int64_t block_size(const Attributes& attributes, int64_t otherwise) {
  const int64_t size = attributes.integer("size", otherwise);
  if (size < 1 || size > 4096) throw Refused("size must be within 1..4096; it is " + std::to_string(size));
  return size;
}

BlockScale::BlockScale(const Attributes& attributes, int64_t size)
    : size_(block_size(attributes, size)), rows_(attributes.integer("rows", 1)) {
  if (rows_ < 1) throw Refused("rows must be positive; it is " + std::to_string(rows_));
}

void BlockScale::compute(const Context& context) const {
  const Tensor x = context.input(0);
  if (x.rank() < 2) throw Refused("x must have at least two dimensions; its shape is " + text(x.shape()));
  Shape shape = x.shape();
  const int64_t depth = shape.back(), height = shape[shape.size() - 2], blocks = divide_up(depth, size_);
  const int64_t batch = product(Shape(shape.begin(), shape.end() - 2)), high = divide_up(height, rows_);
  shape.back() = blocks;
  int64_t bad;
  const float m = largest_magnitude(x.data<float>(), x.count(), &bad, context);
  refuse_bad("x", x, bad);
  const Tensor block_scale = context.output(0, shape);
  const Tensor scale = context.output(1, {});
  const float tensor_scale = outer(m);
  if (scale.present()) *scale.data<float>() = tensor_scale * unit();
  if (!block_scale.present()) return;
  const BlockKernels& kernels = best_blocks();
  parallel_ranges(context, batch * high, [&](int64_t first, int64_t last) {
    Buffer<uint32_t> bits(blocks);
    for (int64_t task = first; task < last; ++task) {
      const int64_t from = task % high * rows_, until = std::min(height, from + rows_);
      std::fill(bits.data(), bits.data() + blocks, 0u);
      for (int64_t row = from; row < until; ++row) {
        kernels.maxima(x.data<float>() + (task / high * height + row) * depth, depth, size_, bits.data());
      }
      int32_t* to = block_scale.data<int32_t>() + (task / high * height + from) * blocks;
      for (int64_t i = 0; i < blocks; ++i) {
        float b;
        std::memcpy(&b, bits.data() + i, sizeof b);
        to[i] = block(b, m, tensor_scale);
      }
      for (int64_t row = from + 1; row < until; ++row) std::copy(to, to + blocks, to + (row - from) * blocks);
    }
  });
}

float Nvfp4Scale::outer(float m) const { return nvfp4_outer(m); }
int32_t Nvfp4Scale::block(float b, float, float outer) const { return nvfp4_block(b, outer, up_); }

float Mxfp4Scale::outer(float m) const { return mxfp4_top(m); }
int32_t Mxfp4Scale::block(float b, float, float outer) const { return mxfp4_block(b, outer); }

float Block16Scale::outer(float m) const { return block16_step(m); }
int32_t Block16Scale::block(float b, float m, float) const { return block16_block(b, m); }

}  // namespace fourbit
