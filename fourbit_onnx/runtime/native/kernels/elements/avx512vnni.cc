#define FOURBIT_ELEMENTS elements_avx512vnni
#include "kernels/elements/elements.inl"
