#define FOURBIT_TILE tile_scalar
#include "kernels/tile/tile.inl"
