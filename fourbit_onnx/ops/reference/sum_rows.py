"""The sum of the rows of a tensor."""

import math

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.ops.reference.tree_sums import Array, pairs


def sum_rows(x: ArrayLike, *, axis: int = -1) -> Array:
    """``SumRows``: the sum over the axes before ``axis``, by pairs; it has the shape of a row.

    Args:
        x: float32, at least one axis and one element.
        axis: The first axis of a row; a negative one counts from the end.
    """
    x = np.asarray(x, np.float32)
    row = x.shape[axis:] if axis < x.ndim else ()
    with np.errstate(all="ignore"):
        return pairs(x.reshape(-1, math.prod(row))).reshape(row)
