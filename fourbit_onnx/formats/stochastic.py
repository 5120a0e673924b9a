"""Stochastic rounding to the levels of a symmetric format: up with the probability that makes it unbiased.

Levels 0 = L0 < L1 < ... < L7 are those of the codes 0..7, and ``m = |x| / scale``, one float32 division.

    e = the number of levels L1..L7 with m >= L,  and  e + 1  if  e < 7  and  u < (m - Le) / (L(e+1) - Le)

for a random number u in [0, 1). The subtractions are exact in float32 (m and Le are multiples of the last
place of m), the division is one IEEE division. So E[value] = x within the resolution of u, 2**-24 of the
gap between two levels, while |x| is at most the top level; beyond, it saturates. For ``log2`` this is LUQ
(Chmiel et al., ICLR 2023): stochastic underflow is rounding between L0 = 0 and L1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import checks
from fourbit_onnx.formats.table import Format
from fourbit_onnx.formats.types import Codes, Scalar


def levels(row: Format) -> tuple[int, ...]:
    """The magnitudes of the codes 0..7 of a symmetric format, in units of the scale."""
    return row.values[:8]


def encode(x: ArrayLike, scale: Scalar, u: ArrayLike, row: Format) -> Codes:
    """Codes of the shape of ``x``: int8 with its sign for ``int4``, else uint8 with a sign bit of 8.

    Args:
        x: Any shape, read as float32; may be empty. ``-0`` and what becomes zero is code 0.
        scale: Of the tensor, float32.
        u: Random numbers in [0, 1), the shape of ``x``.
        row: ``FORMATS["int4"]``, ``["log2"]`` or ``["log4"]``.

    Raises:
        FormatError: There are elements, and one is not finite, or the scale is not finite and positive;
            or the shapes differ.
    """
    x, u = np.asarray(x, np.float32), np.asarray(u, np.float32)
    if x.shape != u.shape:
        raise FormatError(f"{row.name} needs one random number for each of {x.shape}, not {u.shape}")
    checks.require_encodable(row.name, x, scale)
    with np.errstate(all="ignore"):  # overflow saturates; the scale of an empty tensor may be 0
        e = _round(np.abs(x) / np.float32(scale), u, levels(row))
    negative = (x < 0) & (e > 0)
    if row.element_type == "int4":
        return np.where(negative, -e, e).astype(np.int8)
    return np.asarray(e + 8 * negative, np.uint8)


def _round(m: NDArray[np.float32], u: NDArray[np.float32], magnitudes: tuple[int, ...]) -> NDArray[np.int64]:
    level = np.array(magnitudes, np.float32)
    gap = np.append(level[1:] - level[:-1], np.float32(1))  # the last is not used
    e = np.searchsorted(level[1:], m, side="right")  # how many are at most m
    up = (u < (m - level[e]) / gap[e]) & (e < 7)
    return np.asarray(e + up, np.int64)
