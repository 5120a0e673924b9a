"""The block Hadamard transform: spreads an outlier over its block, and leaves products unchanged.

    y = x * signs, in blocks of 16 along the last axis;  four stages with distance d = 1, 2, 4, 8:
    (y[i], y[i + d]) = (y[i] + y[i + d], y[i] - y[i + d]) for i with bit d clear;  y = y / 4

That is Sylvester's matrix over 4, orthonormal, so that transforming both operands of a product along the
axis that it sums changes nothing but roundings. The order of the float32 additions is this one
everywhere. The signs are random, and the same for all tensors and for ever: without them a constant
block would become one outlier (NVIDIA, arXiv 2509.25149).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import blocks

SIZE = 16
SIGNS = (1, 1, -1, 1, -1, -1, -1, 1, 1, -1, 1, 1, 1, -1, -1, -1)


def transform(x: ArrayLike) -> NDArray[np.float32]:
    """``x`` [..., M, K] in float32 to [..., M, 16 * ceil(K / 16)]: a short last block is filled with zeros.

    Raises:
        FormatError: There are fewer than two dimensions.
    """
    x = np.asarray(x, np.float32)
    blocks.require_matrix(x.shape)
    *outer, depth = x.shape
    wide = blocks.count(depth, SIZE)
    y = np.pad(x, [(0, 0)] * len(outer) + [(0, wide * SIZE - depth)])
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32: the quantiser refuses it
        y = y.reshape(*outer, wide, SIZE) * np.array(SIGNS, np.float32)
        for distance in (1, 2, 4, 8):
            pairs = y.reshape(*outer, wide, SIZE // (2 * distance), 2, distance)
            a, b = pairs[..., 0, :], pairs[..., 1, :]
            y = np.stack([a + b, a - b], axis=-2)
        return np.asarray(y.reshape(*outer, wide * SIZE) * np.float32(0.25), np.float32)
