"""Sums whose result depends neither on their order nor on the number of threads: sums of integers.

Terms are written in units of 2**-bits of the largest magnitude, so they are rounded (half to even)
once each, to integers; what follows is exact.
"""

import numpy as np
from numpy.typing import NDArray


def fixed_point(x: NDArray[np.float32], m: np.float32, bits: int) -> NDArray[np.int64]:
    """``rint(x / m * 2**bits)``: a float32 division, a product that is exact, a rounding.

    Args:
        x: Finite, any shape.
        m: At least every ``|x|``, and not 0.
        bits: So that results are within ±2**bits.
    """
    scaled: NDArray[np.float32] = x / m * np.float32(2**bits)
    return np.rint(scaled).astype(np.int64)
