// The operators of domain ai.fourbit: one table of names, functions and types.
#pragma once

#include <memory>
#include <vector>

#include "ops/context.h"

namespace fourbit {

// One node's kernel: attributes are read by the constructor, `compute` checks shapes and calls kernels.
class Operator {
 public:
  virtual ~Operator() = default;
  virtual void compute(const Context& context) const = 0;
};

template <typename T>
std::unique_ptr<Operator> make(const Attributes& attributes) {
  return std::make_unique<T>(attributes);
}

// What an input may be; `codes` stands for int4 and uint4, each with a kernel registration of its own.
enum class Type { float32, uint8, int32, int64, int4, uint4, codes };

struct Definition {
  const char* name;
  std::unique_ptr<Operator> (*make)(const Attributes&);
  std::vector<Type> inputs, outputs;
};

// Every operator. A test compares the names with the function bodies.
const std::vector<Definition>& definitions();

}  // namespace fourbit
