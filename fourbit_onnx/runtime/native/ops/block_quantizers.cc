#include <cmath>

#include "kernels/blocks/blocks.h"
#include "kernels/elements/parallel.h"
#include "ops/blocks.h"

namespace fourbit {
namespace {

using Encode = void (*)(const float*, int64_t, const float*, int64_t, const float*, uint8_t*);

void quantize(const Context& context, int64_t size, Encode encode) {
  const Tensor x = context.input(0), block_scale = context.input(1), u = context.input(3);
  if (x.rank() < 1) throw Refused("x must have a last axis; it is one number");
  const int64_t depth = x.shape().back(), blocks = divide_up(depth, size);
  Shape expected = x.shape();
  expected.back() = blocks;
  if (block_scale.shape() != expected) {
    throw Refused("block_scale must be " + text(expected) + " for x " + text(x.shape()) + "; it is " +
                  text(block_scale.shape()));
  }
  if (u.present() && u.shape() != x.shape()) {
    throw Refused("u must have the shape of x, " + text(x.shape()) + "; it is " + text(u.shape()));
  }
  const float scale = context.scalar(2, "scale");
  Buffer<float> steps(block_scale.count());
  for (int64_t i = 0; i < block_scale.count(); ++i) {
    steps.data()[i] = static_cast<float>(block_scale.data<int32_t>()[i]) * scale;
    if (!(std::isfinite(steps.data()[i]) && steps.data()[i] > 0)) {
      throw Refused("block_scale times scale must be finite and positive; it is " + text(steps.data()[i]));
    }
  }
  int64_t bad;
  largest_magnitude(x.data<float>(), x.count(), &bad, context);
  refuse_bad("x", x, bad);
  const Tensor codes = context.output(0, x.shape());
  if (!codes.present() || x.count() == 0) return;
  Buffer<uint8_t> bytes(x.count() + 1);
  parallel_ranges(context, x.count() / depth, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      encode(x.data<float>() + row * depth, depth, steps.data() + row * blocks, size,
             u.present() ? u.data<float>() + row * depth : nullptr, bytes.data() + row * depth);
    }
  });
  const BlockKernels& kernels = best_blocks();
  parallel_ranges(context, divide_up(x.count(), 16384), [&](int64_t first, int64_t last) {
    const int64_t from = first * 16384, until = std::min(last * 16384, x.count());
    kernels.pack(bytes.data() + from, until - from, codes.data<uint8_t>() + from / 2);
  });
}

}  // namespace

QuantizeE2M1Blocks::QuantizeE2M1Blocks(const Attributes& attributes) : size_(block_size(attributes, 16)) {}

void QuantizeE2M1Blocks::compute(const Context& context) const { quantize(context, size_, best_blocks().encode_e2m1); }

QuantizeInt4Blocks::QuantizeInt4Blocks(const Attributes& attributes) : size_(block_size(attributes, 16)) {}

void QuantizeInt4Blocks::compute(const Context& context) const { quantize(context, size_, best_blocks().encode_int4); }

void BlockHadamard::compute(const Context& context) const {
  const Tensor x = context.input(0);
  if (x.rank() < 2) throw Refused("x must have at least two dimensions; its shape is " + text(x.shape()));
  Shape shape = x.shape();
  const int64_t depth = shape.back(), wide = divide_up(depth, 16) * 16;
  shape.back() = wide;
  const Tensor y = context.output(0, shape);
  if (!y.present() || y.count() == 0) return;
  const BlockKernels& kernels = best_blocks();
  parallel_ranges(context, y.count() / wide, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      kernels.hadamard(x.data<float>() + row * depth, depth, y.data<float>() + row * wide);
    }
  });
}

}  // namespace fourbit
