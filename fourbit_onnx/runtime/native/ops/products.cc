#include "kernels/gemm/matmul.h"

#include <cstring>

#include "ops/kernels.h"

namespace fourbit {

QMatMul::QMatMul(const Attributes& attributes)
    : trans_a_(attributes.integer("trans_a", 0) != 0), trans_b_(attributes.integer("trans_b", 0) != 0) {
  attributes.values("a_values", a_values_);
  attributes.values("b_values", b_values_);
}

void QMatMul::multiply(const Context& context, bool biased) const {
  const Tensor a = context.input(0), b = context.input(3);
  const Shape &p = a.shape(), &q = b.shape();
  const size_t rank = p.size();
  const auto refuse = [&](const std::string& why) {
    throw Refused(why + ": a is " + text(p) + (trans_a_ ? " transposed" : "") + ", b is " + text(q) +
                  (trans_b_ ? " transposed" : ""));
  };
  if (rank < 2 || q.size() != rank) refuse("a and b must have the same rank, at least 2");
  const int64_t m = p[rank - (trans_a_ ? 1 : 2)], k = p[rank - (trans_a_ ? 2 : 1)];
  const int64_t n = q[rank - (trans_b_ ? 2 : 1)];
  if (q[rank - (trans_b_ ? 1 : 2)] != k) refuse("the depths of a and b differ");
  Shape shape(p.begin(), p.end() - 2);
  if (shape != Shape(q.begin(), q.end() - 2)) refuse("the batch dimensions of a and b must be equal");
  const int64_t batch = product(shape);
  shape.push_back(m);
  shape.push_back(n);

  const Operand left{a.data<uint8_t>(), a_values_, context.zero_point(2, "a_zero_point")};
  const Operand right{b.data<uint8_t>(), b_values_, context.zero_point(5, "b_zero_point")};
  const float scale = context.scalar(1, "a_scale") * context.scalar(4, "b_scale");
  const Tensor bias = biased ? context.input(6) : Tensor();
  if (biased && bias.shape() != Shape{n}) {
    throw Refused("bias must have the shape " + text(Shape{n}) + "; its shape is " + text(bias.shape()));
  }
  const Tensor y = context.output(0, shape);
  if (!y.present() || y.count() == 0) return;
  matmul({batch, m, k, n, trans_a_, trans_b_}, left, right, scale, biased ? bias.data<float>() : nullptr,
         y.data<float>(), context);
}

}  // namespace fourbit
