#define FOURBIT_LSTM_CELL lstm_cell_avx512vnni
#include "kernels/lstm_cell/lstm_cell.inl"
