#define FOURBIT_DIRECT direct_scalar
#include "kernels/direct/direct.inl"
