#define FOURBIT_LAYER_NORM layer_norm_avx512vnni
#include "kernels/layer_norm/layer_norm.inl"
