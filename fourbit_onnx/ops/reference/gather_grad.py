"""The gradient of Gather, in the order of the indices; see ``ops/gather_grad.py``."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import GraphError


def gather_grad(shape: ArrayLike, indices: ArrayLike, dy: ArrayLike, *, axis: int = 0) -> NDArray[np.float32]:
    """``GatherGrad``: dy added where Gather took it from, float32, in the order of the indices.

    Args:
        shape: Of what was gathered from.
        indices: int64, any shape; a negative one counts from the end.
        dy: Gradient of what was gathered: ``indices``'s shape takes the place of ``axis``.
        axis: At least 0.

    Raises:
        GraphError: An index is out of range.
    """
    sizes = [int(size) for size in np.asarray(shape)]
    n, outer, inner = sizes[axis], math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
    places = np.asarray(indices).reshape(-1)
    if places.size and (places.min() < -n or places.max() >= n):
        raise GraphError(f"GatherGrad: indices are from {-n} to {n - 1}")
    rows = np.asarray(dy, np.float32).reshape(outer, places.size, inner)
    dx = np.zeros((outer, n, inner), np.float32)
    with np.errstate(all="ignore"):
        for i, place in enumerate(places):
            dx[:, place] += rows[:, i]
    return dx.reshape(sizes)
