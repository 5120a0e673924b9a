// How many threads a session has. ONNX Runtime does not tell its operators, so whoever makes a session says it before the
// operators are registered (runtime/library.py).
#pragma once

#include <cstdint>

namespace fourbit {

// For what the calling thread registers from now on; 0 or less: not known.
void set_session_threads(int64_t count);

// What was said last, on this thread; if nothing, the processors that this process may use. At least 1.
int64_t session_threads();

}  // namespace fourbit
