#define FOURBIT_LSTM_CELL lstm_cell_avx2
#include "kernels/lstm_cell/lstm_cell.inl"
