// Every kernel variant by name, through a C interface: for tests, benchmarks and `fourbit doctor`.
// fourbit_onnx/runtime/library.py and tests/native.py read it; change `version` with the layout.
#include <cstdint>
#include <cstring>
#include <string>

#include "base/isa.h"
#include "base/session_threads.h"
#include "kernels/bytes/bytes.h"
#include "kernels/dot/dot.h"
#include "kernels/elements/elements.h"

namespace fourbit {
namespace {

extern "C" {

struct FourbitKernel {
  const char* name;  // "dot_avx2"
  const char* isa;   // "avx2"
  int32_t supported; // by this CPU
  void (*function)();
};

struct FourbitKernels {
  int32_t version;
  int32_t rows, cols;  // of a tile
  int32_t count;
  const FourbitKernel* kernels;
  // The instruction set in use.
  const char* (*isa)();
  // Takes another one: "" or why not. The text is valid until the next call.
  const char* (*select)(const char* isa);
  // Threads that sessions have which this thread registers from now on; 0: not known.
  void (*threads)(int64_t count);
};

}  // extern "C"

template <typename Function>
FourbitKernel entry(const char* kernel_name, Isa isa, Function* function) {
  return {kernel_name, name(isa), cpu_has(isa) ? 1 : 0, reinterpret_cast<void (*)()>(function)};
}

const char* current() { return name(active_isa()); }

const char* take(const char* isa) {
  static std::string refused;
  refused = select_isa(isa);
  return refused.c_str();
}

}  // namespace
}  // namespace fourbit

#define FOURBIT_ENTRIES(isa, suffix, ...)                      \
  entry("dot_" #suffix, isa, dot_##suffix),                    \
  entry("column_sums_" #suffix, isa, column_sums_##suffix),    \
  entry("unpack_" #suffix, isa, unpack_##suffix),              \
  entry("unpack_add_" #suffix, isa, unpack_add_##suffix),      \
  entry("interleave_" #suffix, isa, interleave_##suffix),      \
  entry("turn_" #suffix, isa, turn_##suffix),                  \
  entry("quantize_" #suffix, isa, elements_##suffix.quantize), \
  entry("quantize_log_" #suffix, isa, elements_##suffix.quantize_log),

extern "C" __attribute__((visibility("default"))) const fourbit::FourbitKernels* fourbit_kernels() {
  using namespace fourbit;
  static const FourbitKernel kernels[] = {
      FOURBIT_VARIANTS(FOURBIT_ENTRIES, )
  };
  static const FourbitKernels table = {3,       kRows,   kCols, sizeof kernels / sizeof *kernels,
                                       kernels, current, take,  set_session_threads};
  return &table;
}
