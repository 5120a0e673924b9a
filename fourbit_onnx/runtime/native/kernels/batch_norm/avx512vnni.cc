#define FOURBIT_BATCH_NORM batch_norm_avx512vnni
#include "kernels/batch_norm/batch_norm.inl"
