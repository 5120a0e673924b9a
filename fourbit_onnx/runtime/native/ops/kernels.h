// The classes behind the table in operators.cc, but those with headers of their own: layers.h, blocks.h,
// updates.h. Each reads its attributes once; the definition of every operator is its function body in
// fourbit_onnx/ops.
#pragma once

#include "kernels/conv/grid.h"
#include "kernels/gemm/planes.h"
#include "ops/operators.h"

namespace fourbit {

// Scale rules (scales.cc)

class SawbScale final : public Operator {
 public:
  explicit SawbScale(const Attributes&) {}
  void compute(const Context& context) const override;
};

class AbsMaxScale final : public Operator {
 public:
  explicit AbsMaxScale(const Attributes&) {}
  void compute(const Context& context) const override;
};

class UnderflowScale final : public Operator {
 public:
  explicit UnderflowScale(const Attributes&) {}
  void compute(const Context& context) const override;
};

class MinMaxScale final : public Operator {
 public:
  explicit MinMaxScale(const Attributes&) {}
  void compute(const Context& context) const override;
};

class GradientScale final : public Operator {
 public:
  explicit GradientScale(const Attributes& attributes) : threshold_(attributes.number("threshold", 2.5f)) {}
  void compute(const Context& context) const override;

 private:
  float threshold_;
};

class LearnedGradientScale final : public Operator {
 public:
  explicit LearnedGradientScale(const Attributes& attributes) : threshold_(attributes.number("threshold", 2.5f)) {}
  void compute(const Context& context) const override;

 private:
  float threshold_;
};

class DitherScale final : public Operator {
 public:
  explicit DitherScale(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Shape factors_;
};

// Quantisers (quantizers.cc)

class QuantizeInt4 final : public Operator {
 public:
  explicit QuantizeInt4(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QuantizeAffine final : public Operator {
 public:
  explicit QuantizeAffine(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QuantizePact final : public Operator {
 public:
  explicit QuantizePact(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QuantizePactSigned final : public Operator {
 public:
  explicit QuantizePactSigned(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QuantizeLog4 final : public Operator {
 public:
  explicit QuantizeLog4(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  float factor_, threshold_;
};

class QuantizeLog2 final : public Operator {
 public:
  explicit QuantizeLog2(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QuantizeInt4Stochastic final : public Operator {
 public:
  explicit QuantizeInt4Stochastic(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QuantizeLogStochastic final : public Operator {
 public:
  explicit QuantizeLogStochastic(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  float factor_, levels_[8];
};

class PactGrad : public Operator {  // pact_grad.cc
 public:
  explicit PactGrad(const Attributes& attributes) : PactGrad(attributes, false) {}
  void compute(const Context& context) const override;

 protected:
  PactGrad(const Attributes& attributes, bool plus)
      : top_(static_cast<int>(attributes.integer("top", 15))), plus_(plus) {}

 private:
  int top_;
  bool plus_;
};

class PactPlusGrad final : public PactGrad {
 public:
  explicit PactPlusGrad(const Attributes& attributes) : PactGrad(attributes, true) {}
};

// Products (products.cc, convolutions.cc)

class QMatMul : public Operator {
 public:
  explicit QMatMul(const Attributes& attributes);
  void compute(const Context& context) const override { multiply(context, false); }

 protected:
  void multiply(const Context& context, bool biased) const;

 private:
  Values a_values_, b_values_;
  bool trans_a_, trans_b_;
};

class QMatMulBias final : public QMatMul {
 public:
  using QMatMul::QMatMul;
  void compute(const Context& context) const override { multiply(context, true); }
};

class QMatMulTwoPhase final : public Operator {
 public:
  explicit QMatMulTwoPhase(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values a_values_;
  bool trans_a_, trans_dy_, trans_y_;
};

// What the convolutions share: the attributes that give the geometry.
class ConvOperator : public Operator {
 protected:
  explicit ConvOperator(const Attributes& attributes);
  // Of x and w (their full shapes); refuses what does not fit together.
  ConvGeometry geometry(const Shape& x, const Shape& w) const;
  // dx of dy, whose codes (of one phase) are input 0. Input w and those that follow: codes, scale, zero point; x_shape.
  void input_grad(const Context& context, const Operand& dy, float dy_scale, size_t w, const Values& w_values) const;
  // dw of x, inputs 0 to 2, and dy, whose codes (of one phase) are input 3; w_shape is an input, too.
  void weight_grad(const Context& context, const Values& x_values, const Operand& dy, float dy_scale, size_t w_shape) const;

 private:
  Shape strides_, pads_, dilations_;
  int64_t group_;
};

class QConv final : public ConvOperator {
 public:
  explicit QConv(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values x_values_, w_values_;
};

class QConvInputGrad final : public ConvOperator {
 public:
  explicit QConvInputGrad(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values dy_values_, w_values_;
};

class QConvWeightGrad final : public ConvOperator {
 public:
  explicit QConvWeightGrad(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values x_values_, dy_values_;
};

class QConvInputGradTwoPhase final : public ConvOperator {
 public:
  explicit QConvInputGradTwoPhase(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values w_values_;
};

class QConvWeightGradTwoPhase final : public ConvOperator {
 public:
  explicit QConvWeightGradTwoPhase(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values x_values_;
};

// Codes in another order or place (codes.cc)

class TransposeCodes final : public Operator {
 public:
  explicit TransposeCodes(const Attributes&) {}
  void compute(const Context& context) const override;
};

class JoinCodes final : public Operator {
 public:
  explicit JoinCodes(const Attributes&) {}
  void compute(const Context& context) const override;
};

// Random numbers (random.cc)

class RandomUniform final : public Operator {
 public:
  explicit RandomUniform(const Attributes& attributes)
      : stream_(static_cast<uint32_t>(attributes.integer("stream", 0))) {}
  void compute(const Context& context) const override;

 private:
  uint32_t stream_;
};

}  // namespace fourbit
