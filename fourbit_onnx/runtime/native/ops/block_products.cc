#include <algorithm>
#include <cstdlib>
#include <string>
#include <tuple>

#include "kernels/blocks/product.h"
#include "kernels/conv/grid.h"
#include "ops/blocks.h"

namespace fourbit {

QBlockMatMul::QBlockMatMul(const Attributes& attributes) : size_(block_size(attributes, 16)) {
  if (size_ > kExactTerms) {
    throw Refused("size must be at most " + std::to_string(kExactTerms) + ", so that sums are exact; it is " +
                  std::to_string(size_));
  }
  attributes.values("a_values", a_values_);
  attributes.values("b_values", b_values_);
  for (int i = 0; i < 16; ++i) {
    if (std::max(std::abs(a_values_[i]), std::abs(b_values_[i])) > 12) {
      throw Refused("a_values and b_values must be within ±12, so that sums are exact");
    }
  }
}

void QBlockMatMul::compute(const Context& context) const {
  const Tensor a = context.input(0), b = context.input(3);
  const Tensor a_scales = context.input(1), b_scales = context.input(4);
  const Shape &p = a.shape(), &q = b.shape();
  if (p.size() < 2 || q.size() != p.size() || p.back() != q.back() ||
      Shape(p.begin(), p.end() - 2) != Shape(q.begin(), q.end() - 2)) {
    throw Refused("a times the transpose of b is no product: a is " + text(p) + ", b is " + text(q));
  }
  const int64_t k = p.back(), n = q[q.size() - 2];
  if (k > 932067) throw Refused("sums of at most 932067 terms fit 64 bits; a is " + text(p));
  for (const auto& [name, codes, scales] : {std::tuple{"a", &a, &a_scales}, std::tuple{"b", &b, &b_scales}}) {
    Shape expected = codes->shape();
    expected.back() = divide_up(k, size_);
    if (scales->shape() != expected) {
      throw Refused(std::string(name) + "_block_scale must be " + text(expected) + "; it is " + text(scales->shape()));
    }
  }
  const float a_scale = context.scalar(2, "a_scale"), b_scale = context.scalar(5, "b_scale");
  Shape shape = p;
  shape.back() = n;
  const Tensor y = context.output(0, shape);
  if (!y.present() || y.count() == 0) return;
  const BlockProduct product_shape{product(Shape(p.begin(), p.end() - 2)), k, size_};
  BlockOperand left{a.data<uint8_t>(), a_scales.data<int32_t>(), {}, a_scale, p[p.size() - 2]};
  BlockOperand right{b.data<uint8_t>(), b_scales.data<int32_t>(), {}, b_scale, n};
  std::copy(a_values_, a_values_ + 16, left.values);
  std::copy(b_values_, b_values_ + 16, right.values);
  block_matmul(product_shape, left, right, y.data<float>(), context);
}

}  // namespace fourbit
