// ONNX Runtime's objects as C++: one call of an operator, its tensors, attributes, threads, memory.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/host.h"
#include "kernels/gemm/planes.h"
#include "ort/abi.h"

namespace fourbit {

using Shape = std::vector<int64_t>;

// What the caller got wrong; the message is completed with the operator's and node's name.
class Refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

std::string text(const Shape& shape);  // [2, 3]
std::string text(float value);

class Tensor {
 public:
  Tensor() = default;  // absent
  Tensor(void* data, ort::ElementType type, Shape shape);
  bool present() const { return present_; }
  ort::ElementType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t count() const { return count_; }
  template <typename T>
  T* data() const {
    return static_cast<T*>(data_);
  }

 private:
  bool present_ = false;
  void* data_ = nullptr;
  ort::ElementType type_ = ort::kFloat;
  Shape shape_;
  int64_t count_ = 0;
};

// Throws unless both have one shape; the names are for the message.
void same_shape(const char* name, const Tensor& x, const char* other_name, const Tensor& other);

// Throws if `bad` >= 0: x[bad], by its index in the shape, is not finite.
void refuse_bad(const char* name, const Tensor& x, int64_t bad);

// The attributes of a node; read once, when its kernel is made.
class Attributes {
 public:
  Attributes(const ort::Api* api, const OrtKernelInfo* info) : api_(api), info_(info) {}
  float number(const char* name, float otherwise) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  Shape integers(const char* name) const;               // empty if absent
  void values(const char* name, Values& values) const;  // 16 of them; required
  std::string node_name() const;

 private:
  const ort::Api* api_;
  const OrtKernelInfo* info_;
};

// One call. Inputs must be read before outputs are asked for only by convention; both stay valid.
class Context final : public Host {
 public:
  Context(const ort::Api* api, OrtKernelContext* context, int64_t threads);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Tensor input(size_t index) const;
  Tensor output(size_t index, const Shape& shape) const;  // absent if nobody wants it

  // A 0-d (or one-element) input; `name` is for the message.
  float scalar(size_t index, const char* name) const;
  int64_t zero_point(size_t index, const char* name) const;

  void parallel(int64_t count, const std::function<void(int64_t)>& task) const override;
  int64_t threads() const override { return threads_; }

 private:
  void check(OrtStatus* status) const;

  const ort::Api* api_;
  OrtKernelContext* context_;
  int64_t threads_;
};

}  // namespace fourbit
