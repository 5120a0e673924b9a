#define FOURBIT_ELEMENTS elements_avx2
#include "kernels/elements/elements.inl"
