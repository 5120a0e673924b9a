"""E4M3, the eight-bit float of NVFP4's block scales, as integers in units of 2**-9.

Four bits of exponent, three of mantissa, no infinity: 448 is the largest number, 2**-6 the smallest
normal one, 2**-9 the smallest of all (OCP 8-bit Floating Point 1.0). So every number of it is an integer of
at most 229376 = 448 * 512 in that unit, of four significant bits at most.
"""

import numpy as np
from numpy.typing import NDArray

UNIT = np.float32(2.0**-9)
TOP = 448 * 512
# From each of these on, in units, the spacing is twice as wide.
_EDGES = np.array([2.0**e for e in range(4, 18)], np.float32)


def units(r: NDArray[np.float32], *, up: bool = False) -> NDArray[np.int32]:
    """``r`` in E4M3, in units of 2**-9: to nearest, half to even, or ``up``; within 1..229376.

    Never 0, because one divides by it: what would be 0 becomes the smallest number.

    Args:
        r: At least 0 and finite, any shape.
        up: Round up, so that the result is not below ``r`` (but 448 at most).
    """
    u = np.asarray(r / UNIT, np.float32)  # exact but for overflow: a power of two
    spacing = np.exp2(np.searchsorted(_EDGES, u, side="right")).astype(np.float32)
    rounded = np.ceil(u / spacing) if up else np.rint(u / spacing)
    return np.asarray(np.clip(rounded * spacing, 1, TOP), np.int32)
