#define FOURBIT_SOFTMAX_GRAD softmax_grad_avx2
#include "kernels/softmax_grad/softmax_grad.inl"
