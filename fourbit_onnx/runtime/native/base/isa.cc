#include "base/isa.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#define FOURBIT_CPUID 1
#endif

namespace fourbit {
namespace {

constexpr Isa kAll[] = {Isa::avx512vnni, Isa::avx2, Isa::scalar};  // best first

#ifdef FOURBIT_CPUID
// XCR0: which registers the operating system saves. Needs OSXSAVE. Inline assembly, because the
// intrinsic wants -mxsave.
uint64_t saved_registers() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

bool detect(Isa isa) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return false;  // OSXSAVE
  const uint64_t saved = saved_registers();
  if ((saved & 0x6) != 0x6) return false;  // XMM, YMM
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if (!(b >> 5 & 1)) return false;  // AVX2
  if (isa == Isa::avx2) return true;
  if ((saved & 0xe6) != 0xe6) return false;  // mask registers, ZMM
  constexpr unsigned kFoundation = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
  constexpr unsigned kNeeded = kFoundation | kDq | kBw | kVl;
  return (b & kNeeded) == kNeeded && (c >> 11 & 1);  // VNNI
}
#else
bool detect(Isa) { return false; }
#endif

Isa best() {
  for (const Isa isa : kAll) {
    if (cpu_has(isa)) return isa;
  }
  return Isa::scalar;
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{best()};
  return isa;
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::avx512vnni: return "avx512vnni";
    case Isa::avx2: return "avx2";
    default: return "scalar";
  }
}

bool cpu_has(Isa isa) { return isa == Isa::scalar || detect(isa); }

Isa active_isa() { return current().load(std::memory_order_relaxed); }

std::string select_isa(const std::string& wanted) {
  for (const Isa isa : kAll) {
    if (wanted != name(isa)) continue;
    if (!cpu_has(isa)) {
      return "instruction set '" + wanted + "' is not supported by this CPU or operating system; the best here is " +
             name(best());
    }
    current().store(isa, std::memory_order_relaxed);
    return "";
  }
  return "no instruction set '" + wanted + "'; there are: scalar, avx2, avx512vnni";
}

std::string isa_from_environment() {
  const char* wanted = std::getenv("FOURBIT_ISA");
  if (wanted == nullptr || *wanted == '\0') return "";
  const std::string refused = select_isa(wanted);
  return refused.empty() ? "" : "FOURBIT_ISA: " + refused;
}

}  // namespace fourbit
