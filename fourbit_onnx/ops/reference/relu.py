"""Relu and Clip with the packed mask of their gradient, and that gradient; float32 tensors of any shape."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import packing


def relu(x: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """``Relu``: +0 where x < 0, else x (NaN and -0 too); mask x > 0, uint8[ceil(n / 8)]."""
    x = np.asarray(x, np.float32)
    return np.where(x < 0, np.float32(0), x), packing.pack_bits(x > 0)


def add_relu(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """``AddRelu``: ``Relu`` of a + b, of the same shape."""
    with np.errstate(all="ignore"):
        return relu(np.asarray(a, np.float32) + np.asarray(b, np.float32))


def clip(
    x: ArrayLike, *, low: float = 0.0, high: float = 6.0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """``Clip``: low where x < low, high where x > high, else x (NaN too); mask low <= x <= high."""
    x = np.asarray(x, np.float32)
    lowest, highest = np.float32(low), np.float32(high)
    y = np.where(x < lowest, lowest, np.where(x > highest, highest, x))
    return y, packing.pack_bits((x >= lowest) & (x <= highest))


def relu_grad(dy: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
    """``ReluGrad``: dy where the mask is 1, else +0."""
    dy = np.asarray(dy, np.float32)
    return np.where(packing.unpack_bits(mask, dy.shape), dy, np.float32(0))


def sum_relu_grad(dy: ArrayLike, other: ArrayLike, mask: ArrayLike) -> NDArray[np.float32]:
    """``SumReluGrad``: ``ReluGrad`` of dy + other, of the same shape."""
    with np.errstate(all="ignore"):
        return relu_grad(np.asarray(dy, np.float32) + np.asarray(other, np.float32), mask)
