"""The gradient of Softmax; the formula is in ``ops/softmax_grad.py``."""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.ops.reference.tree_sums import Array, halves


def softmax_grad(dy: ArrayLike, y: ArrayLike) -> Array:
    """``SoftmaxGrad``: dx, of the shape of both.

    Args:
        dy: Gradient of y, float32.
        y: The softmax over the last axis, the same shape. At least one element.
    """
    dy, y = (np.asarray(part, np.float32) for part in (dy, y))
    with np.errstate(all="ignore"):
        return y * (dy - halves(dy * y))
