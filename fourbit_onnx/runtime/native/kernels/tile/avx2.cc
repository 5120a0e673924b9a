#define FOURBIT_TILE tile_avx2
#include "kernels/tile/tile.inl"
