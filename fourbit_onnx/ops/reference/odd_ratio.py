"""Odd functions as rational functions, by IEEE operations only; ``tools/fit_odd_ratios.py`` fits them."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats.types import Scalar

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class OddRatio:
    """``t * (P(t * t) / Q(t * t))`` with t = x between -limit and limit.

    Everything is float32, rounded after each operation, P and Q by Horner's rule.

    Attributes:
        limit: Of |t|.
        p: Coefficients of the numerator, the constant first.
        q: Coefficients of the denominator.
    """

    limit: Scalar
    p: tuple[float, ...]
    q: tuple[float, ...]

    def __call__(self, x: Array) -> Array:
        """At ``x``, which has been bounded from below."""
        limit = np.float32(self.limit)
        t = np.where(x > limit, limit, x)
        s = t * t
        result: Array = t * (_polynomial(self.p, s) / _polynomial(self.q, s))
        return result

    def from_below(self, x: ArrayLike) -> Array:
        """``x``, or -limit where it is less; NaN stays what it is."""
        x = np.asarray(x, np.float32)
        limit = np.float32(self.limit)
        return np.where(x < -limit, -limit, x)


def _polynomial(coefficients: tuple[float, ...], s: Array) -> Array:
    """By Horner's rule: multiply, then add."""
    total = np.full_like(s, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * s + np.float32(coefficient)
    return total
