#include "kernels/softmax_grad/softmax_grad.h"

namespace fourbit {

const SoftmaxGradKernels& best_softmax_grad() {
  const Isa isa = active_isa();
#define FOURBIT_KERNEL(variant, suffix) \
  if (isa == variant) return softmax_grad_##suffix;
#include "kernels/variants.inc"
#undef FOURBIT_KERNEL
  return softmax_grad_scalar;
}

}  // namespace fourbit
