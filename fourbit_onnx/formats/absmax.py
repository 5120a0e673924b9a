"""Absmax: the scale with which the largest magnitude becomes the top code of ``int4``.

    scale = max|x| / 7

in float32; 1 for a tensor of zeros or an empty one, and at least 1e-30.
"""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.formats import checks
from fourbit_onnx.formats.guard import guard


def scale(x: ArrayLike) -> np.float32:
    """The scale of ``x``, of any shape.

    Raises:
        FormatError: Some element is not finite.
    """
    m = checks.largest_magnitude("absmax", "x", np.asarray(x, np.float32))
    return guard(m / np.float32(7)) if m > 0 else np.float32(1)
