"""``int4`` with a step for each element (of its block): clip(round(x / step), -7, 7)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import checks
from fourbit_onnx.formats.e2m1 import round_magnitude


def encode(x: ArrayLike, step: ArrayLike, u: ArrayLike | None = None) -> NDArray[np.int8]:
    """Codes of ``x``; ``|x| / step`` to nearest, half to even, or stochastically by ``u``; sign afterwards.

    Args:
        x: Any shape, read as float32; may be empty. ``-0`` is code 0.
        step: For each element or for all: float32.
        u: In [0, 1), of the shape of ``x``; None rounds to nearest.

    Raises:
        FormatError: Some element of ``x`` is not finite, or one of ``step`` not finite and positive.
    """
    x, step = np.asarray(x, np.float32), np.asarray(step, np.float32)
    checks.require_encodable("int4", x, step, "block scale")
    with np.errstate(over="ignore"):  # overflow saturates
        r = np.abs(x) / step
    code = np.minimum(round_magnitude(r, u), np.float32(7)).astype(np.int8)
    return np.where(x < 0, -code, code).astype(np.int8)
