#define FOURBIT_BATCH_NORM batch_norm_avx2
#include "kernels/batch_norm/batch_norm.inl"
