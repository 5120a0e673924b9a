#define FOURBIT_LAYER_NORM layer_norm_scalar
#include "kernels/layer_norm/layer_norm.inl"
