// The instruction sets that every kernel is written for. Headers, what picks the one in use (variants.cc), the table for
// tests and so the tests themselves read this list.
#pragma once

#include <type_traits>

#include "base/isa.h"

// X(instruction set, suffix of its functions, ...) for each, best first.
#if defined(__x86_64__) && defined(__GNUC__)
#define FOURBIT_VARIANTS(X, ...)                \
  X(Isa::avx512vnni, avx512vnni, __VA_ARGS__)   \
  X(Isa::avx2, avx2, __VA_ARGS__)               \
  X(Isa::scalar, scalar, __VA_ARGS__)
#else
#define FOURBIT_VARIANTS(X, ...) X(Isa::scalar, scalar, __VA_ARGS__)
#endif

// A table of functions: `extern const Table name_avx2` and so on, and `best_name()`, that of the instruction set in use.
#define FOURBIT_TABLE_VARIANT(isa, suffix, Table, name) extern const Table name##_##suffix;
#define FOURBIT_TABLE(Table, name)                       \
  FOURBIT_VARIANTS(FOURBIT_TABLE_VARIANT, Table, name)   \
  const Table& best_##name();

// The same for a lone function; `Pointer` points to one.
#define FOURBIT_FUNCTION_VARIANT(isa, suffix, Pointer, name) std::remove_pointer_t<Pointer> name##_##suffix;
#define FOURBIT_FUNCTION(Pointer, name)                        \
  FOURBIT_VARIANTS(FOURBIT_FUNCTION_VARIANT, Pointer, name)    \
  Pointer best_##name();
