// What kernels need from whoever runs them: threads. ONNX Runtime provides them
// (ops/context.cc); kernels do not know it.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "base/scratch.h"

namespace fourbit {

class Host {
 public:
  virtual ~Host() = default;
  // Calls task(i) for i < count, in any order, on any thread; returns when all are done. An
  // exception of a task is thrown again here.
  virtual void parallel(int64_t count, const std::function<void(int64_t)>& task) const = 0;
  // How many tasks may run at a time, about: for the size of tasks, never for a result.
  virtual int64_t threads() const = 0;
};

// The calling thread: for parts of a task.
class Alone final : public Host {
 public:
  void parallel(int64_t count, const std::function<void(int64_t)>& task) const override {
    for (int64_t i = 0; i < count; ++i) task(i);
  }
  int64_t threads() const override { return 1; }
};

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Splits 0..count into at most 64 ranges and calls task(first, last) for each: enough for
// balance on the machines we know, few enough that a task may allocate scratch memory.
inline void parallel_ranges(const Host& host, int64_t count,
                            const std::function<void(int64_t, int64_t)>& task) {
  const int64_t ranges = count < 64 ? count : 64;
  host.parallel(ranges, [&](int64_t i) { task(count * i / ranges, count * (i + 1) / ranges); });
}

// Calls task(first, count) for ranges of 0..n that begin at multiples of `block`.
inline void parallel_blocks(const Host& host, int64_t n, int64_t block,
                            const std::function<void(int64_t, int64_t)>& task) {
  if (n <= block) return task(0, n);  // not worth waking a thread
  parallel_ranges(host, divide_up(n, block), [&](int64_t first, int64_t last) {
    task(first * block, (last * block < n ? last * block : n) - first * block);
  });
}

}  // namespace fourbit
