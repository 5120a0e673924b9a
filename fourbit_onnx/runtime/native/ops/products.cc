#include "kernels/gemm/matmul.h"

#include <cstring>

#include "ops/kernels.h"
#include "ops/two_phase.h"

namespace fourbit {
namespace {

// What two stacks of matrices are to `matmul`, and the batch dimensions of both.
struct Factors {
  MatMulShape shape;
  Shape batch;

  Shape result() const {
    Shape all = batch;
    all.push_back(shape.m);
    all.push_back(shape.n);
    return all;
  }
};

Factors factors(const std::string& a, const Shape& p, bool trans_a, const std::string& b, const Shape& q, bool trans_b) {
  const size_t rank = p.size();
  const auto refuse = [&](const std::string& why) {
    throw Refused(why + ": " + a + " is " + text(p) + (trans_a ? " transposed" : "") + ", " + b + " is " + text(q) +
                  (trans_b ? " transposed" : ""));
  };
  if (rank < 2 || q.size() != rank) refuse(a + " and " + b + " must have the same rank, at least 2");
  const int64_t m = p[rank - (trans_a ? 1 : 2)], k = p[rank - (trans_a ? 2 : 1)];
  const int64_t n = q[rank - (trans_b ? 2 : 1)];
  if (q[rank - (trans_b ? 1 : 2)] != k) refuse("the depths of " + a + " and " + b + " differ");
  const Shape batch(p.begin(), p.end() - 2);
  if (batch != Shape(q.begin(), q.end() - 2)) refuse("the batch dimensions of " + a + " and " + b + " must be equal");
  return {{product(batch), m, k, n, trans_a, trans_b}, batch};
}

}  // namespace

QMatMul::QMatMul(const Attributes& attributes)
    : trans_a_(attributes.integer("trans_a", 0) != 0), trans_b_(attributes.integer("trans_b", 0) != 0) {
  attributes.values("a_values", a_values_);
  attributes.values("b_values", b_values_);
}

void QMatMul::multiply(const Context& context, bool biased) const {
  const Tensor a = context.input(0), b = context.input(3);
  const Factors f = factors("a", a.shape(), trans_a_, "b", b.shape(), trans_b_);
  const int64_t n = f.shape.n;
  const Operand left{a.data<uint8_t>(), a_values_, context.zero_point(2, "a_zero_point")};
  const Operand right{b.data<uint8_t>(), b_values_, context.zero_point(5, "b_zero_point")};
  const float scale = context.scalar(1, "a_scale") * context.scalar(4, "b_scale");
  const Tensor bias = biased ? context.input(6) : Tensor();
  if (biased && bias.shape() != Shape{n}) {
    throw Refused("bias must have the shape " + text(Shape{n}) + "; its shape is " + text(bias.shape()));
  }
  const Tensor y = context.output(0, f.result());
  if (!y.present() || y.count() == 0) return;
  matmul(f.shape, left, right, scale, biased ? bias.data<float>() : nullptr, y.data<float>(), context);
}

QMatMulTwoPhase::QMatMulTwoPhase(const Attributes& attributes)
    : trans_a_(attributes.integer("trans_a", 0) != 0),
      trans_dy_(attributes.integer("trans_dy", 0) != 0),
      trans_y_(attributes.integer("trans_y", 0) != 0) {
  attributes.values("a_values", a_values_);
}

void QMatMulTwoPhase::compute(const Context& context) const {
  const Tensor a = context.input(0), even = context.input(3);
  // The transpose of a product is that of the transposes, the other way round.
  const Factors f = trans_y_ ? factors("dy", even.shape(), !trans_dy_, "a", a.shape(), !trans_a_)
                             : factors("a", a.shape(), trans_a_, "dy", even.shape(), trans_dy_);
  const Operand left{a.data<uint8_t>(), a_values_, context.zero_point(2, "a_zero_point")};
  const Operand right = two_phase(context, 3);
  const float scale = context.scalar(1, "a_scale") * two_phase_scale(context.scalar(5, "dy_scale"));
  const Tensor y = context.output(0, f.result());
  if (!y.present() || y.count() == 0) return;
  matmul(f.shape, trans_y_ ? right : left, trans_y_ ? left : right, scale, nullptr, y.data<float>(), context);
}

}  // namespace fourbit
