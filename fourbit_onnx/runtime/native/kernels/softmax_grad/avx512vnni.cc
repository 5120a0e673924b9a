#define FOURBIT_SOFTMAX_GRAD softmax_grad_avx512vnni
#include "kernels/softmax_grad/softmax_grad.inl"
