"""Refusals shared by all formats and scale rules: what no 4-bit format can hold."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError


def require_finite(what: str, name: str, x: NDArray[np.float32]) -> None:
    """Refuse NaN and infinity: no format has them, and neither may silently become a code.

    Args:
        what: The format, scale rule or operator that refuses; the message begins with it.
        name: What the caller calls ``x``.
        x: float32, any shape; may be empty.

    Raises:
        FormatError: Some element is not finite; the first one is named.
    """
    finite = np.isfinite(x)
    if not finite.all():
        at = tuple(np.argwhere(~finite)[0].tolist())
        raise FormatError(
            f"{what} needs finite numbers: {name}{list(at)} is {x[at]}; "
            "find what made it, or lower the learning rate"
        )


def require_positive(what: str, name: str, value: np.float32) -> None:
    """Refuse a scale or clip that is not finite, not positive, or NaN.

    Raises:
        FormatError: It is none that a tensor can be divided by.
    """
    if not 0 < value < np.inf:  # false for NaN
        raise FormatError(f"{what} needs a finite {name} above 0, not {value}")


def require_encodable(what: str, x: NDArray[np.float32], scale: ArrayLike, name: str = "scale") -> None:
    """Refuse an ``x`` that ``scale`` does not make codes of; without elements any scale will do.

    Args:
        what: The format; the message begins with it.
        x: Any shape; may be empty.
        scale: For all of ``x`` or for each element, read as float32.
        name: What the message calls it.

    Raises:
        FormatError: There are elements, and one is not finite, or a scale is not finite and positive.
    """
    if x.size > 0:
        require_finite(what, "x", x)
        scales = np.asarray(scale, np.float32)
        for end in (scales.min(), scales.max()):  # NaN if one is
            require_positive(what, name, end)


def largest_magnitude(what: str, name: str, x: NDArray[np.float32]) -> np.float32:
    """The largest ``|x|``; 0 for an empty tensor.

    Raises:
        FormatError: Some element is not finite.
    """
    require_finite(what, name, x)
    return np.float32(np.abs(x).max(initial=0))
