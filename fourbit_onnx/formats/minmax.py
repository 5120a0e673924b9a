"""Min-max: the range of a tensor, stretched to the sixteen codes -8..7 of ``int4_full``.

    scale = (hi - lo) / 15             zero_point = rint(-8 - lo / scale)
    code = clip(rint(x / scale) + zero_point, -8, 7)

The difference and its fifteenth are float64, rounded to float32 once: ``hi - lo`` cannot overflow. A range
that is narrow for its distance from 0 gets a scale of at least max|x| / 2**16, so that the zero point is at
most 2**16 + 8 in magnitude. A constant tensor c has scale |c| and zero point 0, so it is code 1 or -1 and
survives exactly (if |c| >= 1e-30, the least scale); zeros, and an empty tensor, have scale 1.
"""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.formats import checks
from fourbit_onnx.formats.guard import guard


def scale(x: ArrayLike) -> tuple[np.float32, np.int32]:
    """Scale and zero point of ``x``, of any shape.

    Raises:
        FormatError: Some element is not finite.
    """
    x = np.asarray(x, np.float32)
    m = checks.largest_magnitude("minmax", "x", x)
    lo, hi = (x.min(), x.max()) if x.size > 0 else (m, m)
    if lo == hi:
        return (guard(m) if m > 0 else np.float32(1)), np.int32(0)
    step = np.float32((float(hi) - float(lo)) / 15)
    step = guard(np.maximum(step, m * np.float32(2.0**-16)))
    return step, np.int32(np.rint(np.float32(-8) - lo / step))
