#include "base/session_threads.h"

#include <algorithm>
#include <thread>

namespace fourbit {
namespace {

thread_local int64_t said = 0;

}  // namespace

void set_session_threads(int64_t count) { said = count; }

int64_t session_threads() {
  if (said > 0) return said;
  static const int64_t processors = std::max<int64_t>(1, std::thread::hardware_concurrency());
  return processors;
}

}  // namespace fourbit
