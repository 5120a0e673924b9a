#define FOURBIT_GELU gelu_avx512vnni
#include "kernels/gelu/gelu.inl"
