"""``log4``: four bits for gradients, radix-4 logarithmic, [sign 1, exponent 3, mantissa 0].

    value(code) = 0 if e == 0 else (-1)**sign * 4**(e - 1)        sign, e = divmod(code, 8)

From the smallest to the largest level it spans 1 to 4096. Two phases (Sun et al., "Ultra-Low Precision
4-bit Training of Deep Neural Networks", NeurIPS 2020; details reconstructed): the even grid has levels
scale * 4**k, the odd one 2 * scale * 4**k, which is this format with twice the scale, exactly.

The mean of what a number is on both grids has levels 1.5 * scale * 2**k: it is rounded on radix 2, though no
code has more than four bits. It is a sum of two integers, one of each code, in units of 1.5 * scale:

    even part = 4**(e - 1) // 3        odd part = (2 * 4**(e - 1) + 1) // 3        with the sign; 0 for e = 0

The odd code's e is that of the even one, or one less, so the sum is 4**(e - 1), or half of it. (Where the odd
code is 0 and the even one is 1 it is 0, not a third: the pair underflows where its odd code does.)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import checks
from fourbit_onnx.formats.types import Scalar

EVEN, ODD = 0, 1

# Where to round up, above the lower level: the arithmetic midpoint of 1 and 4.
THRESHOLD = 2.5
# Where E[Q(x)] = x for magnitudes whose logarithm is uniform: 3 / ln 4.
UNBIASED = 2.1640425613334453


def value(code: int) -> int:
    """The number that ``code`` stands for, in units of the scale: the definition."""
    sign, e = divmod(code, 8)
    if e == 0:
        return 0  # 0b1_000 is never produced; it reads as zero, not as minus zero
    magnitude = 1 << 2 * (e - 1)  # 4**(e - 1)
    return -magnitude if sign else magnitude


def _with_signs(parts: list[int]) -> tuple[int, ...]:
    return (*parts, *(-part for part in parts))


def thresholds(threshold: Scalar = THRESHOLD) -> NDArray[np.float32]:
    """What a magnitude in units of the scale must exceed for e = 1..7: ``threshold * 4**k``, k = -1..5.

    Exact in float32 but for the rounding of ``threshold`` itself. The lowest pretends that there is a
    level at 1/4: magnitudes up to 0.625 become 0, not those up to the midpoint 0.5 of 0 and 1.
    """
    return np.float32(threshold) * np.array([4.0**k for k in range(-1, 6)], np.float32)


# What a code adds to the mean of both phases, in units of MEAN_UNIT times the scale of the even grid.
EVEN_PART = _with_signs([value(code) // 3 for code in range(8)])
ODD_PART = _with_signs([(2 * value(code) + 1) // 3 for code in range(8)])
MEAN_UNIT = 1.5

VALUES = np.array([value(code) for code in range(16)], np.float32)
THRESHOLDS = thresholds()


def phase_scale(scale: Scalar, phase: int) -> np.float32:
    """The smallest level of the grid: ``scale`` on the even grid, twice that on the odd one (exact).

    Raises:
        FormatError: ``phase`` is neither 0 nor 1.
    """
    if phase not in (EVEN, ODD):
        raise FormatError(f"a phase of log4 is 0 (even) or 1 (odd), not {phase!r}")
    with np.errstate(over="ignore"):  # 2**127 * 2 is infinite: every code is 0 then
        return np.float32(scale) * np.float32(1 + phase)


def encode(
    x: ArrayLike, scale: Scalar, phase: int = EVEN, threshold: Scalar = THRESHOLD
) -> NDArray[np.uint8]:
    """Round to the nearer level, a threshold itself towards zero; saturate beyond 4096 * scale.

    Args:
        x: Any shape, read as float32; may be empty. ``-0`` and negative underflow are code 0.
        scale: The smallest level of the even grid, float32.
        phase: ``EVEN`` or ``ODD``.
        threshold: Where to round up, above the lower level; 2.5 is the arithmetic midpoint,
            3 / ln 4 is unbiased on log-uniform magnitudes, 2 is the geometric midpoint.

    Raises:
        FormatError: There are elements, and one is not finite, or the scale is not finite and positive.
    """
    x = np.asarray(x, np.float32)
    checks.require_encodable("log4", x, scale)  # searchsorted would call NaN 4**6
    with np.errstate(all="ignore"):  # overflow saturates; the scale of an empty tensor may be 0
        magnitude = np.abs(x) / phase_scale(scale, phase)
    e = np.searchsorted(thresholds(threshold), magnitude, side="left")  # how many thresholds are less
    return np.asarray(e + 8 * ((x < 0) & (e > 0)), np.uint8)


def decode(codes: ArrayLike, scale: Scalar, phase: int = EVEN) -> NDArray[np.float32]:
    """The numbers that ``codes`` (0..15) stand for: ``VALUES[code]`` times the scale of the phase."""
    with np.errstate(over="ignore"):  # beyond float32: infinite, as IEEE has it
        return np.asarray(VALUES[np.asarray(codes, np.uint8)] * phase_scale(scale, phase), np.float32)


def mean(even: ArrayLike, odd: ArrayLike) -> NDArray[np.int64]:
    """The mean of numbers with these codes on either grid, in units of `MEAN_UNIT` times the scale.

    Args:
        even: Codes 0..15 on the even grid, any shape.
        odd: Codes on the odd grid, the same shape.
    """
    parts = (np.array(EVEN_PART), even), (np.array(ODD_PART), odd)
    left, right = (table[np.asarray(codes, np.int64) & 15] for table, codes in parts)
    return np.asarray(left + right, np.int64)
