#include "kernels/gather_grad/gather_grad.h"

#include <numeric>

#include "ops/layers.h"

namespace fourbit {
namespace {

int64_t product(const Shape& shape, size_t first, size_t last) {
  return std::accumulate(shape.begin() + first, shape.begin() + last, int64_t{1}, std::multiplies<>());
}

}  // namespace

void GatherGrad::compute(const Context& context) const {
  const Tensor sizes = context.input(0), indices = context.input(1), dy = context.input(2);
  const int64_t* size = sizes.data<int64_t>();
  const Shape shape(size, size + sizes.count());
  if (axis_ < 0 || axis_ >= static_cast<int64_t>(shape.size())) {
    throw Refused("axis must be one of the axes of shape, " + text(shape) + "; it is " + std::to_string(axis_));
  }
  const size_t axis = static_cast<size_t>(axis_);
  Shape expected(shape.begin(), shape.begin() + axis_);
  expected.insert(expected.end(), indices.shape().begin(), indices.shape().end());
  expected.insert(expected.end(), shape.begin() + axis_ + 1, shape.end());
  if (dy.shape() != expected) {
    throw Refused("dy must have the shape " + text(expected) + " of what was gathered; it has " + text(dy.shape()));
  }
  const int64_t n = shape[axis], count = indices.count();
  std::vector<int64_t> places(indices.data<int64_t>(), indices.data<int64_t>() + count);
  for (int64_t& place : places) {
    if (place < -n || place >= n) {
      throw Refused("indices are from " + std::to_string(-n) + " to " + std::to_string(n - 1) + "; one is " +
                    std::to_string(place));
    }
    if (place < 0) place += n;
  }
  float* dx = context.output(0, shape).data<float>();
  gather_grad(dy.data<float>(), places.data(), product(shape, 0, axis), count, n,
              product(shape, axis + 1, shape.size()), dx, context);
}

}  // namespace fourbit
