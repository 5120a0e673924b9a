#define FOURBIT_TILE tile_avx512vnni
#include "kernels/tile/tile.inl"
