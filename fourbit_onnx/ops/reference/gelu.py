"""GELU and its gradient with +, -, * and / only; ``tools/fit_gelu.py`` found the coefficients.

    gelu(x) = x * Phi(x),  gelu'(x) = Phi(x) + x * phi(x)        of the standard normal distribution

Phi - 1/2 and gelu' - 1/2 are odd: t * P(t * t) / Q(t * t) with t = x between -limit and limit. At the limit
both are 1/2 to the last bit. Everything is float32, rounded after each operation, P and Q by Horner's rule.
Phi is off by at most 2.6e-7 and gelu' by 3.3e-7 (measured at every float32 from 2**-20 to 8, of both signs;
an ulp of 1 is 1.2e-7); gelu is off by |x| times the former, and a rounding.

Infinity makes no NaN: gelu(-inf) = -0, gelu(inf) = inf, gelu'(-inf) = 0, gelu'(inf) = 1.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats.types import Scalar

Array = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class OddRatio:
    """``1/2 + t * P(t * t) / Q(t * t)``.

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
        result: Array = np.float32(0.5) + t * (_polynomial(self.p, s) / _polynomial(self.q, s))
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


CDF = OddRatio(
    5.5,
    (0.39894223, 0.033852734, 0.0046772663, 0.00016882659, 6.3521265e-06, 2.2749354e-08),
    (1.0, 0.25152215, 0.028645921, 0.00188445, 7.364781e-05, 1.1975043e-06),
)
SLOPE = OddRatio(
    6.15,
    (
        0.7978845, -0.013780201, 0.013400173, 0.00036243474, 3.2005468e-05, 1.3292147e-06, 1.444653e-08,
        -3.0118807e-11,
    ),
    (1.0, 0.31606174, 0.047150496, 0.004368618, 0.00027784743, 1.1809604e-05, 4.2055902e-07),
)  # fmt: skip


def gelu(x: ArrayLike) -> Array:
    """``Gelu``: x * Phi(x), float32 of any shape; -0 for minus infinity, NaN for NaN."""
    bounded = CDF.from_below(x)
    return bounded * CDF(bounded)


def gelu_grad(dy: ArrayLike, x: ArrayLike) -> Array:
    """``GeluGrad``: dy * (Phi(x) + x * phi(x)), of one shape."""
    with np.errstate(all="ignore"):  # dy may be anything
        return np.asarray(dy, np.float32) * SLOPE(SLOPE.from_below(x))
