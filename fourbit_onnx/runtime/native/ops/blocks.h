// Operators with a scale a block; their definitions are in fourbit_onnx/ops/blocks.py and block_products.py.
#pragma once

#include "ops/operators.h"

namespace fourbit {

// Scale rules (block_scales.cc)

class BlockScale : public Operator {
 public:
  void compute(const Context& context) const override;

 protected:
  BlockScale(const Attributes& attributes, int64_t size);

 private:
  // The scale of the tensor whose largest magnitude is m, before it is divided by `unit`.
  virtual float outer(float m) const = 0;
  virtual int32_t block(float b, float m, float outer) const = 0;
  virtual float unit() const = 0;

  int64_t size_, rows_;
};

class Nvfp4Scale final : public BlockScale {
 public:
  explicit Nvfp4Scale(const Attributes& attributes)
      : BlockScale(attributes, 16), up_(attributes.integer("up", 0) != 0) {}

 private:
  float outer(float m) const override;
  int32_t block(float b, float m, float outer) const override;
  float unit() const override { return 0x1p-10f; }

  bool up_;
};

class Mxfp4Scale final : public BlockScale {
 public:
  explicit Mxfp4Scale(const Attributes& attributes) : BlockScale(attributes, 32) {}

 private:
  float outer(float m) const override;
  int32_t block(float b, float m, float outer) const override;
  float unit() const override { return 0x1p-19f; }
};

class Block16Scale final : public BlockScale {
 public:
  explicit Block16Scale(const Attributes& attributes) : BlockScale(attributes, 16) {}

 private:
  float outer(float m) const override;
  int32_t block(float b, float m, float outer) const override;
  float unit() const override { return 0x1p-18f; }
};

// Quantisers and the Hadamard transform (block_quantizers.cc)

class QuantizeE2M1Blocks final : public Operator {  // with `u` or without
 public:
  explicit QuantizeE2M1Blocks(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  int64_t size_;
};

class QuantizeInt4Blocks final : public Operator {
 public:
  explicit QuantizeInt4Blocks(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  int64_t size_;
};

class BlockHadamard final : public Operator {
 public:
  explicit BlockHadamard(const Attributes&) {}
  void compute(const Context& context) const override;
};

class QBlockMatMul final : public Operator {  // block_products.cc
 public:
  explicit QBlockMatMul(const Attributes& attributes);
  void compute(const Context& context) const override;

 private:
  Values a_values_, b_values_;
  int64_t size_;
};

// The attribute `size`; refuses what is not positive.
int64_t block_size(const Attributes& attributes, int64_t otherwise);

}  // namespace fourbit
