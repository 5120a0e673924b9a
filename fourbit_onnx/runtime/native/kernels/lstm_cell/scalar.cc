#define FOURBIT_LSTM_CELL lstm_cell_scalar
#include "kernels/lstm_cell/lstm_cell.inl"
