"""``log2``: four bits for gradients, radix-2 logarithmic, [sign 1, exponent 3, mantissa 0].

    value(code) = 0 if e == 0 else (-1)**sign * 2**(e - 1)        sign, e = divmod(code, 8)

From the smallest to the largest level it spans 1 to 64. LUQ (Chmiel et al., "Accurate Neural Training
with 4-bit Matrix Multiplications at Standard Formats", ICLR 2023) rounds to it stochastically, below the
smallest level too, with the scale max|dy| / 64: see ``formats/stochastic.py``. Their published code has
eight magnitudes a side, which with zero are 17 values; four bits have room for seven.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import checks
from fourbit_onnx.formats.guard import guard
from fourbit_onnx.formats.types import Scalar

# Largest level over smallest.
TOP = np.float32(64)

# What a magnitude in units of the scale must exceed for e = 1..7: midpoints, exact in float32. The lowest
# pretends that there is a level at 1/2, as that of ``log4`` pretends one at 1/4.
THRESHOLDS = np.array([0.75 * 2.0**k for k in range(7)], np.float32)


def value(code: int) -> int:
    """The number that ``code`` stands for, in units of the scale: the definition."""
    sign, e = divmod(code, 8)
    if e == 0:
        return 0  # 0b1_000 is never produced; it reads as zero, not as minus zero
    magnitude = 1 << (e - 1)  # 2**(e - 1)
    return -magnitude if sign else magnitude


def scale(x: ArrayLike) -> np.float32:
    """The scale with which the largest magnitude is the top level: ``max|x| / 64``.

    1 for a tensor of zeros or an empty one, and at least 1e-30.

    Raises:
        FormatError: Some element is not finite.
    """
    m = checks.largest_magnitude("log2", "x", np.asarray(x, np.float32))
    return guard(m / TOP) if m > 0 else np.float32(1)


def encode(x: ArrayLike, scale: Scalar) -> NDArray[np.uint8]:
    """Round to the nearer level, a threshold itself towards zero; saturate beyond 64 * scale.

    Args:
        x: Any shape, read as float32; may be empty. ``-0`` and negative underflow are code 0.
        scale: The smallest level, float32.

    Raises:
        FormatError: There are elements, and one is not finite, or the scale is not finite and positive.
    """
    x = np.asarray(x, np.float32)
    checks.require_encodable("log2", x, scale)  # searchsorted would call NaN 2**6
    with np.errstate(all="ignore"):  # overflow saturates; the scale of an empty tensor may be 0
        magnitude = np.abs(x) / np.float32(scale)
    e = np.searchsorted(THRESHOLDS, magnitude, side="left")  # how many thresholds are less
    return np.asarray(e + 8 * ((x < 0) & (e > 0)), np.uint8)
