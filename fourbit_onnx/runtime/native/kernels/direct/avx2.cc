#define FOURBIT_DIRECT direct_avx2
#include "kernels/direct/direct.inl"
