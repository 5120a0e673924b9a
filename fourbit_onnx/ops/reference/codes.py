"""INT4 codes in another order or place."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def transpose_codes(x: ArrayLike) -> NDArray[np.int8]:
    """``TransposeCodes``: x, codes [rows, columns], as [columns, rows]."""
    return np.ascontiguousarray(np.asarray(x, np.int8).T)


def join_codes(a: ArrayLike, b: ArrayLike) -> NDArray[np.int8]:
    """``JoinCodes``: the rows of a, codes [rows, ...], then those of b; other dimensions are equal."""
    return np.concatenate([np.asarray(a, np.int8), np.asarray(b, np.int8)])
