// The optimisers' updates; their definitions are in fourbit_onnx/ops/optimizers.py.
#pragma once

#include "kernels/updates/updates.h"
#include "ops/operators.h"

namespace fourbit {

class SgdUpdate final : public Operator {
 public:
  explicit SgdUpdate(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  SgdStep step_;
};

class AdamWUpdate final : public Operator {
 public:
  explicit AdamWUpdate(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  AdamWStep step_;
};

}  // namespace fourbit
