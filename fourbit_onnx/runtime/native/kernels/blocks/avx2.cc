#define FOURBIT_BLOCKS blocks_avx2
#include "kernels/blocks/blocks.inl"
