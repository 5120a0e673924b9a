#define FOURBIT_BLOCKS blocks_avx512vnni
#include "kernels/blocks/blocks.inl"
