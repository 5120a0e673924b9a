#include "kernels/conv/conv.h"
#include "ops/kernels.h"
#include "ops/two_phase.h"

namespace fourbit {
namespace {

Shape output_shape(const ConvGeometry& g, int64_t channels, const Dims& spatial) {
  Shape shape{g.batch, g.groups * channels};
  shape.insert(shape.end(), spatial.begin(), spatial.end());
  return shape;
}

// A shape given as a tensor.
Shape shape_input(const Context& context, size_t index, const char* name) {
  const Tensor tensor = context.input(index);
  if (tensor.rank() != 1) throw Refused(std::string(name) + " must be a list; its shape is " + text(tensor.shape()));
  const int64_t* data = tensor.data<int64_t>();
  Shape shape(data, data + tensor.count());
  for (const int64_t d : shape) {
    if (d < 0) throw Refused(std::string(name) + " must not have negative sizes; it is " + text(shape));
  }
  return shape;
}

void check_gradient(const ConvGeometry& g, const Shape& dy) {
  const Shape expected = output_shape(g, g.filters, g.output);
  if (dy != expected) throw Refused("dy must have the shape of the output, " + text(expected) + "; it is " + text(dy));
}

}  // namespace

ConvOperator::ConvOperator(const Attributes& attributes)
    : strides_(attributes.integers("strides")),
      pads_(attributes.integers("pads")),
      dilations_(attributes.integers("dilations")),
      group_(attributes.integer("group", 1)) {}

ConvGeometry ConvOperator::geometry(const Shape& x, const Shape& w) const {
  const auto refuse = [&](const std::string& why) {
    throw Refused(why + ": x is " + text(x) + ", w is " + text(w) + ", group is " + std::to_string(group_));
  };
  if (x.size() < 3 || w.size() != x.size()) refuse("x and w must have the same rank, at least 3");
  const size_t rank = x.size() - 2;
  ConvGeometry g;
  g.strides = strides_.empty() ? Dims(rank, 1) : strides_;
  g.dilations = dilations_.empty() ? Dims(rank, 1) : dilations_;
  g.pads = pads_.empty() ? Dims(2 * rank, 0) : pads_;
  if (g.strides.size() != rank || g.dilations.size() != rank || g.pads.size() != 2 * rank) {
    refuse("strides, dilations and pads must have an entry a spatial dimension (pads two)");
  }
  if (group_ < 1 || x[1] != w[1] * group_ || w[0] % group_ != 0) {
    refuse("x must have group times the channels of w, and group must divide the filters");
  }
  g.batch = x[0];
  g.groups = group_;
  g.channels = w[1];
  g.filters = w[0] / group_;
  for (size_t d = 0; d < rank; ++d) {
    if (g.strides[d] < 1 || g.dilations[d] < 1 || g.pads[d] < 0 || g.pads[d + rank] < 0) {
      refuse("strides and dilations must be positive, pads not negative");
    }
    if (w[d + 2] < 1) refuse("the kernel must not be empty");
    g.input.push_back(x[d + 2]);
    g.kernel.push_back(w[d + 2]);
    g.output.push_back(conv_output_size(x[d + 2], w[d + 2], g.strides[d], g.dilations[d], g.pads[d] + g.pads[d + rank]));
    if (g.output.back() < 0) refuse("the kernel is larger than the padded input");
  }
  return g;
}

void ConvOperator::input_grad(const Context& context, const Operand& dy, float dy_scale, size_t w,
                              const Values& w_values) const {
  const Tensor weights = context.input(w);
  const Shape shape = shape_input(context, w + 3, "x_shape");
  const ConvGeometry g = geometry(shape, weights.shape());
  check_gradient(g, context.input(0).shape());
  const Operand right{weights.data<uint8_t>(), w_values, context.zero_point(w + 2, "w_zero_point")};
  const float scale = dy_scale * context.scalar(w + 1, "w_scale");
  const Tensor dx = context.output(0, shape);
  if (!dx.present() || dx.count() == 0) return;
  conv_input_grad(g, dy, right, scale, dx.data<float>(), context);
}

void ConvOperator::weight_grad(const Context& context, const Values& x_values, const Operand& dy, float dy_scale,
                               size_t w_shape) const {
  const Tensor x = context.input(0);
  const Shape shape = shape_input(context, w_shape, "w_shape");
  const ConvGeometry g = geometry(x.shape(), shape);
  check_gradient(g, context.input(3).shape());
  const Operand left{x.data<uint8_t>(), x_values, context.zero_point(2, "x_zero_point")};
  const float scale = context.scalar(1, "x_scale") * dy_scale;
  const Tensor dw = context.output(0, shape);
  if (!dw.present() || dw.count() == 0) return;
  conv_weight_grad(g, left, dy, scale, dw.data<float>(), context);
}

QConv::QConv(const Attributes& attributes) : ConvOperator(attributes) {
  attributes.values("x_values", x_values_);
  attributes.values("w_values", w_values_);
}

void QConv::compute(const Context& context) const {
  const Tensor x = context.input(0), w = context.input(3);
  const ConvGeometry g = geometry(x.shape(), w.shape());
  const Operand left{x.data<uint8_t>(), x_values_, context.zero_point(2, "x_zero_point")};
  const Operand right{w.data<uint8_t>(), w_values_, context.zero_point(5, "w_zero_point")};
  const float scale = context.scalar(1, "x_scale") * context.scalar(4, "w_scale");
  const Tensor y = context.output(0, output_shape(g, g.filters, g.output));
  if (!y.present() || y.count() == 0) return;
  conv(g, left, right, scale, y.data<float>(), context);
}

QConvInputGrad::QConvInputGrad(const Attributes& attributes) : ConvOperator(attributes) {
  attributes.values("dy_values", dy_values_);
  attributes.values("w_values", w_values_);
}

void QConvInputGrad::compute(const Context& context) const {
  input_grad(context, {context.input(0).data<uint8_t>(), dy_values_, 0}, context.scalar(1, "dy_scale"), 2, w_values_);
}

QConvWeightGrad::QConvWeightGrad(const Attributes& attributes) : ConvOperator(attributes) {
  attributes.values("x_values", x_values_);
  attributes.values("dy_values", dy_values_);
}

void QConvWeightGrad::compute(const Context& context) const {
  weight_grad(context, x_values_, {context.input(3).data<uint8_t>(), dy_values_, 0}, context.scalar(4, "dy_scale"), 5);
}

QConvInputGradTwoPhase::QConvInputGradTwoPhase(const Attributes& attributes) : ConvOperator(attributes) {
  attributes.values("w_values", w_values_);
}

void QConvInputGradTwoPhase::compute(const Context& context) const {
  input_grad(context, two_phase(context, 0), two_phase_scale(context.scalar(2, "dy_scale")), 3, w_values_);
}

QConvWeightGradTwoPhase::QConvWeightGradTwoPhase(const Attributes& attributes) : ConvOperator(attributes) {
  attributes.values("x_values", x_values_);
}

void QConvWeightGradTwoPhase::compute(const Context& context) const {
  weight_grad(context, x_values_, two_phase(context, 3), two_phase_scale(context.scalar(5, "dy_scale")), 6);
}

}  // namespace fourbit
