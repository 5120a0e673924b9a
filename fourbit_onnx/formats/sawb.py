"""SAWB, statistics-aware weight binning: the clip of a weight tensor from two of its moments.

    alpha = c1 * sqrt(E[w**2]) - c2 * E|w|           scale = alpha / 7 for the fifteen levels of ``int4``

Source: Choi et al., "Accurate and Efficient 2-bit Quantized Neural Networks", MLSys 2019; coefficients
as in NUMERICS, section 3. Nearly two-valued weights make alpha tiny or negative: below max|w| / 16 it
is max|w| instead. The moments are fixed-point sums (``fixed_point``); the rest is float64 until alpha.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import checks
from fourbit_onnx.formats.fixed_point import fixed_point
from fourbit_onnx.formats.guard import guard

_BITS = 16  # squares are below 2**33, so 2**31 - 1 of them fit into int64


@dataclasses.dataclass(frozen=True)
class Layout:
    """A row of the SAWB table.

    Attributes:
        bits: Width of the codes.
        levels: How many values the quantiser has, evenly from -alpha to alpha.
        c1: Factor of the root mean square.
        c2: Factor of the mean magnitude.
    """

    bits: int
    levels: int
    c1: float
    c2: float

    @property
    def steps(self) -> float:
        """Steps from 0 to alpha: 7 for fifteen levels, 1.5 for four (which have no zero)."""
        return (self.levels - 1) / 2


# By number of levels; an odd number of levels has zero among them.
LAYOUTS: Mapping[int, Layout] = {
    row.levels: row
    for row in (
        Layout(2, 4, 3.12, 2.064),
        Layout(2, 3, 2.6, 1.71),
        Layout(3, 8, 7.509, 6.892),
        Layout(4, 15, 12.035, 12.03),
        Layout(4, 16, 12.68, 12.80),
        Layout(8, 255, 31.76, 35.04),
    )
}


def clip(w: ArrayLike, levels: int = 15) -> np.float32:
    """The clip alpha of ``w``; 0 for a tensor of zeros or an empty one.

    Args:
        w: Any shape, read as float32; fewer than 2**31 elements.
        levels: A row of ``LAYOUTS``.

    Raises:
        FormatError: Some element is not finite, or there is no such row.
    """
    if levels not in LAYOUTS:
        raise FormatError(f"sawb has no row for {levels!r} levels; there are: {', '.join(map(str, LAYOUTS))}")
    row = LAYOUTS[levels]
    w = np.asarray(w, np.float32)
    m = checks.largest_magnitude("sawb", "w", w)
    if m == 0:
        return m
    u = fixed_point(np.abs(w), m, _BITS)
    # In units of m. Python floats: every operation is rounded to float64, none is fused.
    mean = float(int(u.sum())) / w.size * 2.0**-_BITS
    mean_square = float(int((u * u).sum())) / w.size * 2.0 ** (-2 * _BITS)
    alpha = float(m) * (row.c1 * math.sqrt(mean_square) - row.c2 * mean)
    with np.errstate(over="ignore"):  # alpha may exceed max|w|, and so float32; quantisers refuse that scale
        return m if alpha < float(m) / 16 else np.float32(alpha)


def scale(w: ArrayLike, levels: int = 15) -> np.float32:
    """The step between two levels: ``clip / steps``, float32; 1 for a tensor of zeros; at least 1e-30.

    Raises:
        FormatError: Some element is not finite, or there is no such row.
    """
    alpha = clip(w, levels)
    return guard(alpha / np.float32(LAYOUTS[levels].steps)) if alpha > 0 else np.float32(1)
