"""LayerNormalization and its gradient; the formulas are in ``ops/layer_norm.py``."""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.formats.types import Scalar
from fourbit_onnx.ops.reference.tree_sums import Array, halves, pairs


def layer_norm(
    x: ArrayLike, scale: ArrayLike, bias: ArrayLike, *, epsilon: Scalar = 1e-5
) -> tuple[Array, Array, Array]:
    """``LayerNorm``: y, and mean and 1 / standard deviation of each row.

    Args:
        x: float32; the last axes are those of ``scale``. At least one element.
        scale: Of each element of a row.
        bias: Of each element of a row.
        epsilon: Added to the variance.
    """
    x = np.asarray(x, np.float32)
    scale_row, bias_row = (np.asarray(part, np.float32).reshape(1, -1) for part in (scale, bias))
    rows, n = x.reshape(-1, scale_row.size), np.float32(scale_row.size)
    with np.errstate(all="ignore"):
        mean = halves(rows) / n
        centred = rows - mean
        var = halves(centred * centred) / n
        inv_std = (1.0 / np.sqrt(var.astype(np.float64) + np.float64(np.float32(epsilon)))).astype(np.float32)
        y = centred * inv_std * scale_row + bias_row
    statistics = (*x.shape[: x.ndim - np.ndim(scale)], *(1,) * np.ndim(scale))
    return y.reshape(x.shape), mean.reshape(statistics), inv_std.reshape(statistics)


def layer_norm_grad(
    dy: ArrayLike, x: ArrayLike, scale: ArrayLike, mean: ArrayLike, inv_std: ArrayLike
) -> tuple[Array, Array, Array]:
    """``LayerNormGrad``: dx, dscale and dbias.

    Args:
        dy: Gradient of y, float32.
        x: What was normalised, the same shape; the last axes are those of ``scale``. At least one element.
        scale: Of each element of a row.
        mean: Of each row.
        inv_std: 1 / standard deviation of each row.
    """
    scale_row = np.asarray(scale, np.float32).reshape(1, -1)
    size = scale_row.size
    dy_rows, rows = (np.asarray(part, np.float32).reshape(-1, size) for part in (dy, x))
    mean_column, inv_std_column = (np.asarray(part, np.float32).reshape(-1, 1) for part in (mean, inv_std))
    n = np.float32(size)
    with np.errstate(all="ignore"):
        xhat = (rows - mean_column) * inv_std_column
        g = dy_rows * scale_row
        dx = (g - halves(g) / n - xhat * (halves(g * xhat) / n)) * inv_std_column
        dscale, dbias = pairs(dy_rows * xhat), pairs(dy_rows)
    return dx.reshape(np.shape(x)), dscale.reshape(np.shape(scale)), dbias.reshape(np.shape(scale))
