#include "kernels/elements/random.h"

#include "ops/kernels.h"

namespace fourbit {

void RandomUniform::compute(const Context& context) const {
  const Tensor sizes = context.input(0), counter = context.input(1);
  if (sizes.rank() != 1) throw Refused("shape must be a vector; its own shape is " + text(sizes.shape()));
  if (counter.count() != 1) throw Refused("counter must be one number; its shape is " + text(counter.shape()));
  const int64_t* size = sizes.data<int64_t>();
  const Shape shape(size, size + sizes.count());
  for (const int64_t d : shape) {
    if (d < 0) throw Refused("shape must not be negative; it is " + text(shape));
  }
  const Tensor u = context.output(0, shape);
  if (!u.present()) return;
  random_uniform(u.data<float>(), u.count(), static_cast<uint64_t>(*counter.data<int64_t>()), stream_, context);
}

}  // namespace fourbit
