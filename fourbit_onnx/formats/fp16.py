"""``fp16``: IEEE binary16, kept in float32. The 16-bit baseline's numbers, without its arithmetic units.

Rounding is half to even, as IEEE has it: beyond 65504 and its last half step (65520) the result is
infinite, below 2**-14 numbers are subnormal, and 2**-25 and below become 0, of the same sign. Unlike
the 4-bit formats this one has infinity and NaN, which pass: loss scaling finds them and skips the step.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 65504.0


def round_to_half(x: ArrayLike) -> NDArray[np.float32]:
    """``x`` rounded to binary16, as float32 of the same shape."""
    with np.errstate(over="ignore"):
        return np.asarray(x, np.float32).astype(np.float16).astype(np.float32)
