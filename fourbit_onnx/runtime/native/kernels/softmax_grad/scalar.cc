#define FOURBIT_SOFTMAX_GRAD softmax_grad_scalar
#include "kernels/softmax_grad/softmax_grad.inl"
