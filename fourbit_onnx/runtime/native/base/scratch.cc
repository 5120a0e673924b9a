#include "base/scratch.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace fourbit {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kBlock = 1 << 20;   // the least that is asked for
constexpr size_t kKept = 16 << 20;   // larger blocks are not kept

struct Free {
  void operator()(void* memory) const { ::operator delete(memory, std::align_val_t{kAlignment}); }
};

struct Block {
  std::unique_ptr<void, Free> memory;
  size_t size = 0;
};

thread_local std::vector<Block> blocks;
thread_local ScratchStack::Mark top{0, 0};  // block in use, and how much of it

}  // namespace

ScratchStack& ScratchStack::of_this_thread() {
  static ScratchStack stack;  // it has no members: what it stands for is above
  return stack;
}

ScratchStack::Mark ScratchStack::mark() const { return top; }

void* ScratchStack::take(size_t bytes) {
  bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const auto lacks = [=] { return top.block < blocks.size() && blocks[top.block].size - top.used < bytes; };
  if (lacks() && top.used > 0) top = {top.block + 1, 0};
  // Nobody uses this block, nor any above: a larger one takes its place.
  if (lacks()) blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(top.block));
  if (lacks() || top.block == blocks.size()) {
    const size_t size = std::max(bytes, kBlock);
    blocks.insert(blocks.begin() + static_cast<std::ptrdiff_t>(top.block),
                  {std::unique_ptr<void, Free>(::operator new(size, std::align_val_t{kAlignment})), size});
  }
  char* const begin = static_cast<char*>(blocks[top.block].memory.get()) + top.used;
  top.used += bytes;
  return begin;
}

void ScratchStack::reset(Mark mark) {
  top = mark;
  // Of what is above, only the kept blocks stay, in their order.
  const size_t first = mark.used > 0 ? mark.block + 1 : mark.block;
  for (size_t i = blocks.size(); i-- > first;) {
    if (blocks[i].size > kKept) blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace fourbit
