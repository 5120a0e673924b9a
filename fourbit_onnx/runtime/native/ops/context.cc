#include "ops/context.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <mutex>
#include <sstream>

#include "kernels/conv/grid.h"

namespace fourbit {
namespace {

// A status as an exception, and gone.
void raise(const ort::Api* api, OrtStatus* status) {
  const std::string message = ort::call<ort::GetErrorMessage>(api, static_cast<const OrtStatus*>(status));
  ort::call<ort::ReleaseStatus>(api, status);
  throw std::runtime_error(message);
}

// Whether a status is success; if not it is released.
bool succeeded(const ort::Api* api, OrtStatus* status) {
  if (status == nullptr) return true;
  ort::call<ort::ReleaseStatus>(api, status);
  return false;
}

}  // namespace

std::string text(const Shape& shape) {
  std::ostringstream out;
  out << '[';
  for (size_t d = 0; d < shape.size(); ++d) out << (d == 0 ? "" : ", ") << shape[d];
  out << ']';
  return out.str();
}

std::string text(float value) {
  if (std::isnan(value)) return "nan";
  std::ostringstream out;
  out << value;
  return out.str();
}

void same_shape(const char* name, const Tensor& x, const char* other_name, const Tensor& other) {
  if (x.shape() != other.shape()) {
    throw Refused(std::string(other_name) + " must have the shape of " + name + ", " + text(x.shape()) + "; it has " +
                  text(other.shape()));
  }
}

void refuse_bad(const char* name, const Tensor& x, int64_t bad) {
  if (bad < 0) return;
  Shape at(x.shape().size());
  int64_t rest = bad;
  for (size_t d = at.size(); d-- > 0;) {
    at[d] = rest % x.shape()[d];
    rest /= x.shape()[d];
  }
  throw Refused(std::string(name) + " must be finite: " + name + text(at) + " is " + text(x.data<float>()[bad]));
}

Tensor::Tensor(void* data, ort::ElementType type, Shape shape)
    : present_(true), data_(data), type_(type), shape_(std::move(shape)), count_(product(shape_)) {}

float Attributes::number(const char* name, float otherwise) const {
  float value;
  return succeeded(api_, ort::call<ort::AttributeFloat>(api_, info_, name, &value)) ? value : otherwise;
}

int64_t Attributes::integer(const char* name, int64_t otherwise) const {
  int64_t value;
  return succeeded(api_, ort::call<ort::AttributeInt>(api_, info_, name, &value)) ? value : otherwise;
}

Shape Attributes::integers(const char* name) const {
  size_t size = 0;
  int64_t* nowhere = nullptr;
  if (!succeeded(api_, ort::call<ort::AttributeInts>(api_, info_, name, nowhere, &size)) || size == 0) return {};
  Shape values(size);
  if (!succeeded(api_, ort::call<ort::AttributeInts>(api_, info_, name, values.data(), &size))) return {};
  return values;
}

void Attributes::values(const char* name, Values& values) const {
  const Shape found = integers(name);
  if (found.size() != 16) {
    throw Refused(std::string(name) + " must be 16 integers, the value of each nibble; it has " +
                  std::to_string(found.size()));
  }
  for (int i = 0; i < 16; ++i) {
    if (std::abs(found[i]) > kLargestValue) {
      throw Refused(std::string(name) + " must be within ±4096; nibble " + std::to_string(i) + " stands for " +
                    std::to_string(found[i]));
    }
    values[i] = found[i];
  }
}

std::string Attributes::node_name() const {
  size_t size = 0;
  char* nowhere = nullptr;
  succeeded(api_, ort::call<ort::GetNodeName>(api_, info_, nowhere, &size));
  std::string name(size, '\0');
  if (size == 0 || !succeeded(api_, ort::call<ort::GetNodeName>(api_, info_, name.data(), &size))) return "";
  name.resize(std::min(name.find('\0'), name.size()));
  return name;
}

Context::Context(const ort::Api* api, OrtKernelContext* context, int64_t threads)
    : api_(api), context_(context), threads_(threads) {}

void Context::check(OrtStatus* status) const {
  if (status != nullptr) raise(api_, status);
}

Tensor Context::input(size_t index) const {
  const OrtValue* value = nullptr;
  check(ort::call<ort::ContextGetInput>(api_, static_cast<const OrtKernelContext*>(context_), index, &value));
  if (value == nullptr) return Tensor();
  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(ort::call<ort::GetTensorTypeAndShape>(api_, value, &info));
  const OrtTensorTypeAndShapeInfo* seen = info;
  ort::ElementType type;
  size_t rank = 0;
  OrtStatus* status = ort::call<ort::GetTensorElementType>(api_, seen, &type);
  if (status == nullptr) status = ort::call<ort::GetDimensionsCount>(api_, seen, &rank);
  Shape shape(rank);
  if (status == nullptr) status = ort::call<ort::GetDimensions>(api_, seen, shape.data(), rank);
  ort::call<ort::ReleaseTypeAndShape>(api_, info);
  check(status);
  void* data = nullptr;
  check(ort::call<ort::GetTensorMutableData>(api_, const_cast<OrtValue*>(value), &data));
  return Tensor(data, type, std::move(shape));
}

Tensor Context::output(size_t index, const Shape& shape) const {
  OrtValue* value = nullptr;
  check(ort::call<ort::ContextGetOutput>(api_, context_, index, shape.data(), shape.size(), &value));
  if (value == nullptr) return Tensor();
  void* data = nullptr;
  check(ort::call<ort::GetTensorMutableData>(api_, value, &data));
  return Tensor(data, ort::kFloat, shape);
}

float Context::scalar(size_t index, const char* name) const {
  const Tensor tensor = input(index);
  if (tensor.count() != 1) {
    throw Refused(std::string(name) + " must be one number for the whole tensor; its shape is " + text(tensor.shape()));
  }
  return *tensor.data<float>();
}

int64_t Context::zero_point(size_t index, const char* name) const {
  const Tensor tensor = input(index);
  if (tensor.count() != 1) {
    throw Refused(std::string(name) + " must be one integer for the whole tensor; its shape is " +
                  text(tensor.shape()));
  }
  const int64_t value = *tensor.data<int32_t>();
  if (std::abs(value) > int64_t{1} << 20) {
    throw Refused(std::string(name) + " is " + std::to_string(value) + "; MinMaxScale gives at most ±131072");
  }
  return value;
}

void Context::parallel(int64_t count, const std::function<void(int64_t)>& task) const {
  struct Work {
    const std::function<void(int64_t)>& task;
    std::mutex mutex;
    std::exception_ptr error;
  } work{task, {}, nullptr};
  if (count == 0) return;
  if (count == 1) return task(0);
  const auto run = [](void* data, size_t index) {
    Work& work = *static_cast<Work*>(data);
    try {
      work.task(static_cast<int64_t>(index));
    } catch (...) {  // must not cross ONNX Runtime's threads
      const std::lock_guard<std::mutex> lock(work.mutex);
      if (!work.error) work.error = std::current_exception();
    }
  };
  void (*function)(void*, size_t) = run;
  void* data = &work;
  check(ort::call<ort::ContextParallelFor>(api_, static_cast<const OrtKernelContext*>(context_), function,
                                           static_cast<size_t>(count), size_t{0}, data));
  if (work.error) std::rethrow_exception(work.error);
}

}  // namespace fourbit
