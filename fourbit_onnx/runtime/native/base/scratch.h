// Scratch memory: of a thread, and always the same.
//
// Memory from an allocator that all tensors share lies somewhere else each time: it is in no cache, or in that of the
// core that used it last. In a ResNet-18 step that cost a third of the time of the large convolutions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fourbit {

// The stack of one thread. Blocks stay until the thread ends; large ones until they are given back.
class ScratchStack {
 public:
  struct Mark {
    size_t block, used;
  };
  Mark mark() const;
  // 64-byte aligned, not zeroed, valid until `reset` to a mark from before. Throws std::bad_alloc.
  void* take(size_t bytes);
  void reset(Mark mark);
  static ScratchStack& of_this_thread();
};

// An array of scratch memory until the end of the scope, which must be that of the thread that made it. Others may use
// it meanwhile.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : stack_(ScratchStack::of_this_thread()), mark_(stack_.mark()),
        data_(static_cast<T*>(stack_.take(count > 0 ? count * sizeof(T) : 1))) {}
  ~Buffer() { stack_.reset(mark_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }

 private:
  ScratchStack& stack_;
  const ScratchStack::Mark mark_;
  T* const data_;
};

}  // namespace fourbit
