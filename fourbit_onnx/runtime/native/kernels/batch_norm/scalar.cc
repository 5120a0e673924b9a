#define FOURBIT_BATCH_NORM batch_norm_scalar
#include "kernels/batch_norm/batch_norm.inl"
