"""A tensor once another one is there."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def after(x: ArrayLike, other: ArrayLike) -> NDArray[np.float32]:
    """``After``: x, float32 of any shape, whatever ``other`` holds, float32 of any shape, too."""
    return np.array(x, np.float32)
