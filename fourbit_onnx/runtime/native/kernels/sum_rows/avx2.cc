#define FOURBIT_SUM_ROWS sum_rows_avx2
#include "kernels/sum_rows/sum_rows.inl"
