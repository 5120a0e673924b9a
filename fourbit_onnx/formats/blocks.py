"""Blocks of a tensor: runs of ``size`` elements along the last axis, which is the one that a product sums.

    block scales: int32, [..., M, ceil(K / size)] for a tensor [..., M, K]
    value:        scale * block_scale * table[code]

A block may be ``rows`` high as well (16 x 16 for weights, so that the transpose has the same scales); its
number is then repeated for each of its rows. The last block of a row or column may be short, and is
treated as if zeros followed.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats.types import Scalar


def count(length: int, size: int) -> int:
    """How many blocks of ``size`` cover ``length``."""
    return -(-length // size)


def require_matrix(shape: Sequence[int]) -> None:
    """Refuse what has no rows and columns.

    Raises:
        FormatError: There are fewer than two dimensions.
    """
    if len(shape) < 2:
        raise FormatError(f"blocks need a tensor of at least two dimensions, not of shape {list(shape)}")


def maxima(x: ArrayLike, size: int, rows: int = 1) -> NDArray[np.float32]:
    """The largest ``|x|`` of each block, [..., ceil(M / rows), ceil(K / size)]; 0 where there is none.

    Raises:
        FormatError: ``x`` has fewer than two dimensions.
    """
    x = np.abs(np.asarray(x, np.float32))
    require_matrix(x.shape)
    *outer, height, depth = x.shape
    high, wide = count(height, rows), count(depth, size)
    padding = [(0, 0)] * len(outer) + [(0, high * rows - height), (0, wide * size - depth)]
    tiles = np.pad(x, padding).reshape(*outer, high, rows, wide, size)
    return np.asarray(tiles.max(axis=(-3, -1), initial=0), np.float32)


def for_rows(scales: NDArray[np.int32], rows: int, height: int) -> NDArray[np.int32]:
    """Scales of blocks ``rows`` high, repeated for each of ``height`` rows."""
    return np.asarray(np.repeat(scales, rows, axis=-2)[..., :height, :], np.int32)


def for_elements(scales: ArrayLike, size: int, depth: int) -> NDArray[np.int32]:
    """Block scales [..., M, blocks], repeated for each of ``depth`` elements of a row."""
    return np.asarray(np.repeat(np.asarray(scales, np.int32), size, axis=-1)[..., :depth], np.int32)


def steps(block_scale: ArrayLike, scale: Scalar, size: int, depth: int) -> NDArray[np.float32]:
    """What each element is divided by: ``float32(block_scale) * scale``, one float32 product."""
    repeated = for_elements(block_scale, size, depth).astype(np.float32)  # exact: at most 2**18
    with np.errstate(over="ignore"):
        return np.asarray(repeated * np.float32(scale), np.float32)
