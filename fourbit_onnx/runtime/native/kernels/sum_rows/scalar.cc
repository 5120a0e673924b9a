#define FOURBIT_SUM_ROWS sum_rows_scalar
#include "kernels/sum_rows/sum_rows.inl"
