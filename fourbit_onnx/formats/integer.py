"""The integer formats ``int4``, ``int4_full`` (affine) and ``uint4``.

    code = clip(rint(x / scale) + zero_point, min, max)          value = scale * (code - zero_point)

``x / scale`` is one float32 division (not a product with 1 / scale), ``rint`` rounds half to even, then
the zero point is added in float32, then the code saturates. ``-0`` is code 0 (plus the zero point). A
quotient that overflows float32 saturates like any other large one. NaN and infinity in ``x`` are refused.
"""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.formats import checks
from fourbit_onnx.formats.table import Format
from fourbit_onnx.formats.types import Codes, Scalar


def encode(x: ArrayLike, scale: Scalar, row: Format, zero_point: int = 0) -> Codes:
    """Round to the nearest level, a midpoint to the even code; saturate at the ends of the format.

    Args:
        x: Any shape, read as float32; may be empty.
        scale: Of the tensor, float32.
        row: An integer format: ``FORMATS["int4"]``, ``["int4_full"]`` or ``["uint4"]``.
        zero_point: An integer of at most 2**17 in magnitude; 0 but for ``int4_full``.

    Returns:
        Codes of the shape of ``x``: int8 for INT4, uint8 for UINT4.

    Raises:
        FormatError: There are elements, and one is not finite, or the scale is not finite and positive.
    """
    x, step = np.asarray(x, np.float32), np.float32(scale)
    checks.require_encodable(row.name, x, step)
    with np.errstate(all="ignore"):  # overflow saturates; the scale of an empty tensor may be 0
        rounded = np.rint(x / step)
    code = np.clip(rounded + np.float32(zero_point), row.min, row.max)
    return code.astype(np.int8) if row.element_type == "int4" else code.astype(np.uint8)
