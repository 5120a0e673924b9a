#define FOURBIT_GELU gelu_avx2
#include "kernels/gelu/gelu.inl"
