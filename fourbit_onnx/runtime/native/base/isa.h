// Instruction sets: what this CPU and operating system run, and which one is in use.
#pragma once

#include <string>

namespace fourbit {

// Worst first: a later one includes what the earlier ones need.
enum class Isa { scalar = 0, avx2 = 1, avx512vnni = 2 };

const char* name(Isa isa);

// Whether the CPU has the instructions and the operating system saves their registers.
bool cpu_has(Isa isa);

// The instruction set in use: FOURBIT_ISA if it is set, else the best that `cpu_has`.
// Every kernel asks at each call, so that a test may change it between two runs.
Isa active_isa();

// Takes FOURBIT_ISA. Returns "" or one sentence saying why the value cannot be used; then the
// best is in use.
std::string isa_from_environment();

// Uses `name` from now on; returns "" or one sentence saying why it cannot be used.
std::string select_isa(const std::string& name);

}  // namespace fourbit
