// What layers do beside their 4-bit products: activations, normalisations, LSTM cells, their gradients; their
// definitions are in fourbit_onnx/ops, in files named as those here.
#pragma once

#include "ops/operators.h"

namespace fourbit {

// Relu and Clip with the mask of their gradient (relu.cc)

class Relu final : public Operator {
 public:
  explicit Relu(const Attributes&) {}
  void compute(const Context& context) const override;
};

class AddRelu final : public Operator {
 public:
  explicit AddRelu(const Attributes&) {}
  void compute(const Context& context) const override;
};

class Clip final : public Operator {
 public:
  explicit Clip(const Attributes& attributes)
      : low_(attributes.number("low", 0.0f)), high_(attributes.number("high", 6.0f)) {}
  void compute(const Context& context) const override;

 private:
  float low_, high_;
};

class ReluGrad final : public Operator {
 public:
  explicit ReluGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

class SumReluGrad final : public Operator {
 public:
  explicit SumReluGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

// GELU and its gradient (gelu.cc)

class Gelu final : public Operator {
 public:
  explicit Gelu(const Attributes&) {}
  void compute(const Context& context) const override;
};

class GeluGrad final : public Operator {
 public:
  explicit GeluGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

// The gradient of Gather (gather_grad.cc)

class GatherGrad final : public Operator {
 public:
  explicit GatherGrad(const Attributes& attributes) : axis_(attributes.integer("axis", 0)) {}
  void compute(const Context& context) const override;

 private:
  int64_t axis_;
};

// Batch normalisation in training (batch_norm.cc)

class BatchNorm final : public Operator {
 public:
  explicit BatchNorm(const Attributes& attributes)
      : epsilon_(attributes.number("epsilon", 1e-5f)), momentum_(attributes.number("momentum", 0.9f)) {}
  void compute(const Context& context) const override;

 private:
  float epsilon_, momentum_;
};

class BatchNormGrad final : public Operator {
 public:
  explicit BatchNormGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

// Layer normalisation and its gradient (layer_norm.cc)

class LayerNorm final : public Operator {
 public:
  explicit LayerNorm(const Attributes& attributes) : epsilon_(attributes.number("epsilon", 1e-5f)) {}
  void compute(const Context& context) const override;

 private:
  float epsilon_;
};

class LayerNormGrad final : public Operator {
 public:
  explicit LayerNormGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

// The sum of the rows of a tensor (sum_rows.cc)

class SumRows final : public Operator {
 public:
  explicit SumRows(const Attributes& attributes) : axis_(attributes.integer("axis", -1)) {}
  void compute(const Context& context) const override;

 private:
  int64_t axis_;
};

// The gradient of a softmax over the last axis (softmax_grad.cc)

class SoftmaxGrad final : public Operator {
 public:
  explicit SoftmaxGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

// One step of an LSTM behind its products (lstm_cell.cc)

class LstmCell final : public Operator {
 public:
  explicit LstmCell(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  int64_t step_, steps_;  // of those that p holds
};

class LstmCellGrad final : public Operator {
 public:
  explicit LstmCellGrad(const Attributes&) {}
  void compute(const Context& context) const override;
};

// A tensor once another one is there (after.cc)

class After final : public Operator {
 public:
  explicit After(const Attributes&) {}
  void compute(const Context& context) const override;
};

}  // namespace fourbit
