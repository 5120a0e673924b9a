"""``e2m1``: the four-bit float of NVFP4 and MXFP4, [sign 1, exponent 2, mantissa 1], in halves.

    value(code) = 0, 1, 2, 3, 4, 6, 8, 12 for codes 0..7, in units of half the scale; negative for 9..15

so 0, 0.5, 1, 1.5, 2, 3, 4 and 6 times the scale (OCP Microscaling Formats 1.0). Between neighbours the
spacing is 1 below 4, 2 below 8, 4 above, in halves. Beyond 12 codes saturate; 0b1000 is never produced.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import checks

TOP = 12  # in halves


def value(code: int) -> int:
    """The number that ``code`` stands for, in halves of the scale: the definition."""
    sign, rest = divmod(code, 8)
    exponent, mantissa = divmod(rest, 2)
    magnitude = mantissa if exponent == 0 else (2 + mantissa) << (exponent - 1)
    return -magnitude if sign else magnitude


def encode(x: ArrayLike, half: ArrayLike, u: ArrayLike | None = None) -> NDArray[np.uint8]:
    """Codes of ``x``; to the nearest level, a midpoint to the even code, or stochastically by ``u``.

    ``r = |x| / half`` is one float32 division. Stochastic: up with the probability of the fraction of the
    way to the next level, which is where ``u`` is less than that fraction; unbiased to 2**-24 of a spacing.

    Args:
        x: Any shape, read as float32; may be empty. ``-0`` is code 0.
        half: Half the scale, for each element or for all: float32.
        u: In [0, 1), of the shape of ``x``; None rounds to nearest.

    Raises:
        FormatError: Some element of ``x`` is not finite, or one of ``half`` not finite and positive.
    """
    x, half = np.asarray(x, np.float32), np.asarray(half, np.float32)
    checks.require_encodable("e2m1", x, half, "block scale")
    with np.errstate(over="ignore"):  # overflow saturates
        r = np.abs(x) / half
    wide, wider = r >= 4, r >= 8
    spacings = r / np.where(wider, np.float32(4), np.where(wide, np.float32(2), np.float32(1)))
    q = round_magnitude(spacings, u)
    code = np.minimum(q + np.float32(2) * wide + np.float32(2) * wider, np.float32(7)).astype(np.uint8)
    return np.asarray(code + 8 * ((x < 0) & (code > 0)), np.uint8)


def round_magnitude(r: NDArray[np.float32], u: ArrayLike | None) -> NDArray[np.float32]:
    """``r`` of at least 0 to an integer: half to even, or up where ``u`` is below the fraction (exact)."""
    if u is None:
        return np.rint(r)
    down = np.floor(r)
    with np.errstate(invalid="ignore"):  # infinite: no fraction
        return np.asarray(down + (np.asarray(u, np.float32) < r - down), np.float32)


VALUES = np.array([value(code) for code in range(16)], np.float32)
