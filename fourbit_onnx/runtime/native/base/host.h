// What kernels need from whoever runs them: threads and memory. ONNX Runtime provides both
// (ops/context.cc); kernels do not know it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

namespace fourbit {

class Host {
 public:
  virtual ~Host() = default;
  // Calls task(i) for i < count, in any order, on any thread; returns when all are done. An
  // exception of a task is thrown again here.
  virtual void parallel(int64_t count, const std::function<void(int64_t)>& task) const = 0;
  // Memory, at least 64-byte aligned; not zeroed. May be called from a task. Throws std::bad_alloc.
  virtual void* allocate(size_t bytes) const = 0;
  virtual void release(void* memory) const = 0;
};

// An array from the host's memory, given back at the end of the scope.
template <typename T>
class Buffer {
 public:
  Buffer(const Host& host, int64_t count)
      : host_(host), data_(static_cast<T*>(host.allocate(count > 0 ? count * sizeof(T) : 1))) {}
  ~Buffer() { host_.release(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }

 private:
  const Host& host_;
  T* data_;
};

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Splits 0..count into at most 64 ranges and calls task(first, last) for each: enough for
// balance on the machines we know, few enough that a task may allocate scratch memory.
inline void parallel_ranges(const Host& host, int64_t count,
                            const std::function<void(int64_t, int64_t)>& task) {
  const int64_t ranges = count < 64 ? count : 64;
  host.parallel(ranges, [&](int64_t i) { task(count * i / ranges, count * (i + 1) / ranges); });
}

}  // namespace fourbit
