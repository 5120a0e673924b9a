#define FOURBIT_UPDATES updates_avx512vnni
#include "kernels/updates/updates.inl"
