"""4-bit products, by their definitions: exact integer sums, then one rescaling.

    result = float32(sum of (table_a[code] - zero_a) * (table_b[code] - zero_b)) * (scale_a * scale_b)

The sum is int64 and exact; ``float32`` is one rounding, the product of the scales another, the last
product a third. ``*_values`` are the numbers of nibbles 0..15 (``formats.table``). Padding counts as the
number 0, whatever the zero point. Convolutions are loops over the elements of the kernel.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import GraphError
from fourbit_onnx.formats import log4
from fourbit_onnx.formats.types import Scalar
from fourbit_onnx.ops.reference.geometry import Geometry


def _integers(codes: ArrayLike, values: Sequence[int], zero_point: int = 0) -> NDArray[np.int64]:
    """What codes stand for, in units of their scale: the table by the low four bits, less the zero point."""
    table = np.array(values, np.int64)
    return np.asarray(table[np.asarray(codes, np.int64) & 15] - int(zero_point), np.int64)


def _mean(op: str, even: ArrayLike, odd: ArrayLike) -> NDArray[np.int64]:
    """The mean of both phases of ``log4``, in units of ``log4.MEAN_UNIT`` times the scale of the even one."""
    shapes = [list(np.shape(codes)) for codes in (even, odd)]
    if shapes[0] != shapes[1]:
        raise GraphError(f"ai.fourbit.{op}: phases of {shapes[0]} and of {shapes[1]} codes")
    return log4.mean(even, odd)


def _rescale(total: NDArray[np.int64], scale_a: Scalar, scale_b: Scalar) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):  # beyond float32: as IEEE has it
        return np.asarray(total.astype(np.float32) * (np.float32(scale_a) * np.float32(scale_b)), np.float32)


def _grouped(w: NDArray[np.int64], group: int) -> NDArray[np.int64]:
    """``w`` [M, C / group, ...] as [group, M / group, C / group, ...]."""
    return w.reshape(group, w.shape[0] // group, *w.shape[1:])


def q_conv(
    x: ArrayLike,
    x_scale: Scalar,
    x_zero_point: int,
    w: ArrayLike,
    w_scale: Scalar,
    w_zero_point: int,
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    x_values: Sequence[int],
    w_values: Sequence[int],
) -> NDArray[np.float32]:
    """``QConv``: x [N, C, ...] with w [M, C / group, ...] gives y [N, M, ...].

    Raises:
        GraphError: The shapes are no convolution.
    """
    geometry = Geometry("QConv", strides, pads, dilations, group)
    xv, wv = _integers(x, x_values, x_zero_point), _integers(w, w_values, w_zero_point)
    positions = geometry.positions(xv.shape, wv.shape)
    image, kernel = geometry.padded(xv), _grouped(wv, group)
    total = np.zeros((len(xv), *kernel.shape[:2], *positions), np.int64)
    for tap, met in geometry.taps(wv.shape[2:], positions):
        total += np.einsum("ngc...,goc->ngo...", image[met], kernel[tap])
    return _rescale(total.reshape(len(xv), len(wv), *positions), x_scale, w_scale)


def q_conv_input_grad(
    dy: ArrayLike,
    dy_scale: Scalar,
    w: ArrayLike,
    w_scale: Scalar,
    w_zero_point: int,
    x_shape: Sequence[int],
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    dy_values: Sequence[int],
    w_values: Sequence[int],
) -> NDArray[np.float32]:
    """``QConvInputGrad``: dy [N, M, ...] and w [M, C / group, ...] give dx, of shape ``x_shape``.

    Raises:
        GraphError: The shapes are no convolution.
    """
    geometry = Geometry("QConvInputGrad", strides, pads, dilations, group)
    dyv, wv = _integers(dy, dy_values), _integers(w, w_values, w_zero_point)
    return _rescale(_input_grad(geometry, dyv, wv, x_shape), dy_scale, w_scale)


def q_conv_input_grad_two_phase(
    dy_even: ArrayLike,
    dy_odd: ArrayLike,
    dy_scale: Scalar,
    w: ArrayLike,
    w_scale: Scalar,
    w_zero_point: int,
    x_shape: Sequence[int],
    *,
    w_values: Sequence[int],
    **geometry: Any,
) -> NDArray[np.float32]:
    """``QConvInputGradTwoPhase``: as ``QConvInputGrad``, dy being the mean of both phases of ``log4``.

    Of dy [N, M, ...] it takes the codes on both grids, and the smallest level of the even one.

    Raises:
        GraphError: The shapes are no convolution.
    """
    op = "QConvInputGradTwoPhase"
    dyv, wv = _mean(op, dy_even, dy_odd), _integers(w, w_values, w_zero_point)
    return _rescale(_input_grad(Geometry(op, **geometry), dyv, wv, x_shape), _mean_scale(dy_scale), w_scale)


def _input_grad(
    geometry: Geometry, dy: NDArray[np.int64], w: NDArray[np.int64], x_shape: Sequence[int]
) -> NDArray[np.int64]:
    shape, group = [int(n) for n in x_shape], geometry.group
    positions = geometry.positions(shape, w.shape)
    geometry.check_result(dy.shape, [shape[0], len(w), *positions])
    image, kernel = geometry.padded(np.zeros(shape, np.int64)), _grouped(w, group)
    result = dy.reshape(shape[0], *kernel.shape[:2], *positions)
    for tap, met in geometry.taps(w.shape[2:], positions):
        image[met] += np.einsum("ngo...,goc->ngc...", result, kernel[tap])
    return image[geometry.inner(shape[2:])].reshape(shape)


def q_conv_weight_grad(
    x: ArrayLike,
    x_scale: Scalar,
    x_zero_point: int,
    dy: ArrayLike,
    dy_scale: Scalar,
    w_shape: Sequence[int],
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
    x_values: Sequence[int],
    dy_values: Sequence[int],
) -> NDArray[np.float32]:
    """``QConvWeightGrad``: x [N, C, ...] and dy [N, M, ...] give dw, of shape ``w_shape``.

    Raises:
        GraphError: The shapes are no convolution.
    """
    geometry = Geometry("QConvWeightGrad", strides, pads, dilations, group)
    xv, dyv = _integers(x, x_values, x_zero_point), _integers(dy, dy_values)
    return _rescale(_weight_grad(geometry, xv, dyv, w_shape), x_scale, dy_scale)


def q_conv_weight_grad_two_phase(
    x: ArrayLike,
    x_scale: Scalar,
    x_zero_point: int,
    dy_even: ArrayLike,
    dy_odd: ArrayLike,
    dy_scale: Scalar,
    w_shape: Sequence[int],
    *,
    x_values: Sequence[int],
    **geometry: Any,
) -> NDArray[np.float32]:
    """``QConvWeightGradTwoPhase``: as ``QConvWeightGrad``, dy being the mean of both phases of ``log4``.

    Of dy [N, M, ...] it takes the codes on both grids, and the smallest level of the even one.

    Raises:
        GraphError: The shapes are no convolution.
    """
    op = "QConvWeightGradTwoPhase"
    xv, dyv = _integers(x, x_values, x_zero_point), _mean(op, dy_even, dy_odd)
    return _rescale(_weight_grad(Geometry(op, **geometry), xv, dyv, w_shape), x_scale, _mean_scale(dy_scale))


def _mean_scale(scale: Scalar) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(scale) * np.float32(log4.MEAN_UNIT)


def _weight_grad(
    geometry: Geometry, x: NDArray[np.int64], dy: NDArray[np.int64], w_shape: Sequence[int]
) -> NDArray[np.int64]:
    shape, group = [int(n) for n in w_shape], geometry.group
    positions = geometry.positions(x.shape, shape)
    geometry.check_result(dy.shape, [len(x), shape[0], *positions])
    image, total = geometry.padded(x), _grouped(np.zeros(shape, np.int64), group)
    count = math.prod(positions)
    result = dy.reshape(len(x), group, shape[0] // group, count)
    for tap, met in geometry.taps(shape[2:], positions):
        total[tap] = np.einsum("ngop,ngcp->goc", result, image[met].reshape(len(x), group, shape[1], count))
    return total.reshape(shape)


def q_matmul(
    a: ArrayLike,
    a_scale: Scalar,
    a_zero_point: int,
    b: ArrayLike,
    b_scale: Scalar,
    b_zero_point: int,
    *,
    a_values: Sequence[int],
    b_values: Sequence[int],
    trans_a: int = 0,
    trans_b: int = 0,
) -> NDArray[np.float32]:
    """``QMatMul``: a [..., M, K] times b [..., K, N]; ``trans_*`` first swaps the last two dimensions.

    Raises:
        GraphError: The shapes are no product, or their batch dimensions differ.
    """
    av, bv = _integers(a, a_values, a_zero_point), _integers(b, b_values, b_zero_point)
    return _rescale(_matmul("QMatMul", av, bv, trans_a, trans_b), a_scale, b_scale)


def q_matmul_two_phase(
    a: ArrayLike,
    a_scale: Scalar,
    a_zero_point: int,
    dy_even: ArrayLike,
    dy_odd: ArrayLike,
    dy_scale: Scalar,
    *,
    a_values: Sequence[int],
    trans_a: int = 0,
    trans_dy: int = 0,
    trans_y: int = 0,
) -> NDArray[np.float32]:
    """``QMatMulTwoPhase``: a [..., M, K] times dy [..., K, N], which is the mean of both phases of ``log4``.

    Of dy it takes the codes on both grids, and the smallest level of the even one. ``trans_*`` swaps the
    last two dimensions: of an operand first, of the result at last ([..., N, M]).

    Raises:
        GraphError: The shapes are no product, or their batch dimensions differ.
    """
    op = "QMatMulTwoPhase"
    av, dyv = _integers(a, a_values, a_zero_point), _mean(op, dy_even, dy_odd)
    total = _matmul(op, av, dyv, trans_a, trans_dy)
    return _rescale(total.swapaxes(-1, -2) if trans_y else total, a_scale, _mean_scale(dy_scale))


def _matmul(
    op: str, a: NDArray[np.int64], b: NDArray[np.int64], trans_a: int, trans_b: int
) -> NDArray[np.int64]:
    fit = a.ndim >= 2 and b.ndim >= 2
    if fit:
        a = a.swapaxes(-1, -2) if trans_a else a
        b = b.swapaxes(-1, -2) if trans_b else b
        fit = a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2]
    if not fit:
        raise GraphError(f"ai.fourbit.{op}: {list(a.shape)} times {list(b.shape)} is no product of matrices")
    return np.asarray(np.matmul(a, b), np.int64)


def q_matmul_bias(
    a: ArrayLike,
    a_scale: Scalar,
    a_zero_point: int,
    b: ArrayLike,
    b_scale: Scalar,
    b_zero_point: int,
    bias: ArrayLike,
    **attributes: Any,
) -> NDArray[np.float32]:
    """``QMatMulBias``: the result of ``QMatMul``, then ``bias`` [N] added to every row, in float32.

    Raises:
        GraphError: The shapes are no product, or there is not one bias for each column.
    """
    y = q_matmul(a, a_scale, a_zero_point, b, b_scale, b_zero_point, **attributes)
    bias = np.asarray(bias, np.float32)
    if bias.shape != y.shape[-1:]:
        raise GraphError(
            f"ai.fourbit.QMatMulBias: a bias of shape {list(bias.shape)} for {y.shape[-1]} columns"
        )
    with np.errstate(all="ignore"):
        return np.asarray(y + bias, np.float32)
