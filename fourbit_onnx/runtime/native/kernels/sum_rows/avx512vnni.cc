#define FOURBIT_SUM_ROWS sum_rows_avx512vnni
#include "kernels/sum_rows/sum_rows.inl"
