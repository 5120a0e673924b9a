#define FOURBIT_UPDATES updates_scalar
#include "kernels/updates/updates.inl"
