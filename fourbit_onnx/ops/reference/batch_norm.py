"""Batch normalisation in training, and its gradient; the formulas are in ``ops/batch_norm.py``."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import checks
from fourbit_onnx.formats.types import Scalar

_SMALLEST = np.float32(2.0**-90)

Array = NDArray[np.float32]


def _integer_sums(
    what: str, name: str, x: Array, bits: int
) -> tuple[list[int], list[int], NDArray[np.float64]]:
    """Of each channel (axis 1 of three): the sum of u, the sum of u * u, and q; u = rint(x * q)."""
    checks.require_finite(what, name, x)
    largest = np.maximum(np.abs(x).max(axis=(0, 2)), _SMALLEST)
    q = np.float32(2.0**bits) / largest
    u = np.rint(x * q[:, None]).astype(np.int64)
    sums = [int(u[:, c].sum()) for c in range(x.shape[1])]
    squares = [int((u[:, c] * u[:, c]).sum()) for c in range(x.shape[1])] if bits < 30 else []
    return sums, squares, q.astype(np.float64)


def _rows(x: ArrayLike) -> Array:
    x = np.asarray(x, np.float32)
    return x.reshape(x.shape[0], x.shape[1], -1)


def batch_norm(
    x: ArrayLike,
    gamma: Array,
    beta: Array,
    running_mean: Array,
    running_var: Array,
    *,
    epsilon: Scalar = 1e-5,
    momentum: Scalar = 0.9,
) -> tuple[Array, Array, Array, Array, Array]:
    """``BatchNorm``: y, the new running mean and variance, the batch's mean and 1 / standard deviation.

    Args:
        x: [batch, channels, ...]; at least one element.
        gamma: Scale, of each channel, as all that follow.
        beta: Shift.
        running_mean: Before this batch.
        running_var: Before this batch.
        epsilon: Added to the variance.
        momentum: The share of the running statistics that stays.

    Raises:
        FormatError: Some element of ``x`` is not finite.
    """
    rows = _rows(x)
    n = float(rows.shape[0] * rows.shape[2])
    sums, squares, q = _integer_sums("BatchNorm", "x", rows, 19)
    mean_units, mean_square = np.array(sums, np.float64) / n, np.array(squares, np.float64) / n
    var = np.maximum(mean_square - mean_units * mean_units, 0.0) / (q * q)
    mean = (mean_units / q).astype(np.float32)
    inv_std = (1.0 / np.sqrt(var + np.float64(np.float32(epsilon)))).astype(np.float32)
    scale = np.asarray(gamma, np.float32) * inv_std
    y = (rows - mean[:, None]) * scale[:, None] + np.asarray(beta, np.float32)[:, None]
    kept = np.float32(momentum)
    rest = np.float32(1) - kept
    new_mean = np.asarray(running_mean, np.float32) * kept + mean * rest
    with np.errstate(over="ignore"):  # a variance beyond float32 is infinite
        new_var = np.asarray(running_var, np.float32) * kept + var.astype(np.float32) * rest
    return y.reshape(np.shape(x)), new_mean, new_var, mean, inv_std


def batch_norm_grad(
    dy: ArrayLike, x: ArrayLike, gamma: Array, mean: Array, inv_std: Array
) -> tuple[Array, Array, Array]:
    """``BatchNormGrad``: dx, dgamma and dbeta.

    Args:
        dy: Gradient of y.
        x: What was normalised, the same shape.
        gamma: Scale, of each channel.
        mean: Of the batch, from ``batch_norm``.
        inv_std: Of the batch, from ``batch_norm``.

    Raises:
        FormatError: Some element of ``dy``, or of its product with the normalised x, is not finite.
    """
    dy_rows, rows = _rows(dy), _rows(x)
    n = float(rows.shape[0] * rows.shape[2])
    with np.errstate(all="ignore"):
        xhat = (rows - np.asarray(mean, np.float32)[:, None]) * np.asarray(inv_std, np.float32)[:, None]
        product = dy_rows * xhat
    sums, _, q = _integer_sums("BatchNormGrad", "dy", dy_rows, 30)
    product_sums, _, product_q = _integer_sums("BatchNormGrad", "dy * xhat", product, 30)
    dbeta, dgamma = np.array(sums, np.float64) / q, np.array(product_sums, np.float64) / product_q
    mean_dy, mean_product = (dbeta / n).astype(np.float32), (dgamma / n).astype(np.float32)
    scale = np.asarray(gamma, np.float32) * np.asarray(inv_std, np.float32)
    dx = (dy_rows - mean_dy[:, None] - xhat * mean_product[:, None]) * scale[:, None]
    return dx.reshape(np.shape(x)), dgamma.astype(np.float32), dbeta.astype(np.float32)
