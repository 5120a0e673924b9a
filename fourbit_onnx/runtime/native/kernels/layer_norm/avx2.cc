#define FOURBIT_LAYER_NORM layer_norm_avx2
#include "kernels/layer_norm/layer_norm.inl"
