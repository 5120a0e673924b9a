#define FOURBIT_BLOCKS blocks_scalar
#include "kernels/blocks/blocks.inl"
