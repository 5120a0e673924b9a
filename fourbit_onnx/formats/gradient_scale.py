"""GradScale: one power of two a layer for ``log4`` gradients, from the largest of them or learned.

T is the top level, 4096 times the scale. A magnitude up to ``threshold`` * T is what rounding calls T.

    dynamic:  T = the smallest power of two with max|dy| <= threshold * T
    learned:  T is state;  max|dy| > threshold * T: doubled;  <= threshold * T / 2: halved;  else kept

Source: Sun et al., NeurIPS 2020; the rule of the learned one is reconstructed. T is at least 2**-87, so
that the scale is above 1e-30, and at most 2**127 (dynamic) or 2**115 (learned, so that T times
``threshold`` stays finite). Powers come from a list, not from log2, whose floor may be off by one.
"""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import checks
from fourbit_onnx.formats.log4 import THRESHOLD
from fourbit_onnx.formats.types import Scalar

TOP = np.float32(4096)  # top level over lowest level
_POWERS = np.array([2.0**e for e in range(-87, 128)], np.float32)
_LEAST, _MOST = np.float32(2.0**-87), np.float32(2.0**115)


def _magnitude(dy: ArrayLike, threshold: Scalar) -> np.float32:
    checks.require_positive("gradient_scale", "threshold", np.float32(threshold))
    return checks.largest_magnitude("gradient_scale", "dy", np.asarray(dy, np.float32))


def _limit(threshold: Scalar, top: np.float32) -> np.float32:
    with np.errstate(over="ignore"):  # nothing exceeds an infinite limit
        return np.float32(threshold) * top


def _top_of(m: np.float32, threshold: Scalar) -> np.float32:
    """The smallest power of two with ``m <= threshold * power``; 2**127 if there is none."""
    fitting: list[np.float32] = [power for power in _POWERS if m <= _limit(threshold, power)]
    return fitting[0] if fitting else _POWERS[-1]


def dynamic(dy: ArrayLike, threshold: Scalar = THRESHOLD) -> np.float32:
    """The scale of ``dy`` (any shape) from this very tensor; 1 for a tensor of zeros or an empty one.

    Raises:
        FormatError: Some element is not finite, or the threshold is not finite and positive.
    """
    m = _magnitude(dy, threshold)
    return _top_of(m, threshold) / TOP if m > 0 else np.float32(1)


def learned(dy: ArrayLike, top: Scalar, threshold: Scalar = THRESHOLD) -> tuple[np.float32, np.float32]:
    """The scale of ``dy`` (any shape) by the state ``top``, and the state for the next step.

    A step that exceeds its top level saturates; only the next one has the larger scale. Zeros leave the
    state alone.

    Args:
        dy: The gradient.
        top: The top level T; 0 was never set, and takes the dynamic T of this tensor (of zeros: scale 1,
            and it stays 0).
        threshold: See above.

    Raises:
        FormatError: Some element is not finite, the threshold is not finite and positive, or ``top``
            is not finite or negative.
    """
    m = _magnitude(dy, threshold)
    used = np.float32(top)
    if not 0 <= used < np.inf:
        raise FormatError(f"gradient_scale needs a finite top of at least 0, not {top}; 0 sets it anew")
    if used == 0:
        if m == 0:
            return np.float32(1), np.float32(0)
        used = _top_of(m, threshold)
    limit = _limit(threshold, used)
    after = used
    if m > limit:
        with np.errstate(over="ignore"):
            after = used * np.float32(2)
    elif 0 < m <= limit / np.float32(2):
        after = used / np.float32(2)
    return used / TOP, np.clip(after, _LEAST, _MOST)
