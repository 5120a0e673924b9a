#define FOURBIT_ELEMENTS elements_scalar
#include "kernels/elements/elements.inl"
