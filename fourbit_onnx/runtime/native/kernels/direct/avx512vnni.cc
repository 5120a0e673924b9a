#define FOURBIT_DIRECT direct_avx512vnni
#include "kernels/direct/direct.inl"
