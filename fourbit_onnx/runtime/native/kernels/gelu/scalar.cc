#define FOURBIT_GELU gelu_scalar
#include "kernels/gelu/gelu.inl"
