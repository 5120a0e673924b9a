#define FOURBIT_UPDATES updates_avx2
#include "kernels/updates/updates.inl"
