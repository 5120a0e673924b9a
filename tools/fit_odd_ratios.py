"""Fits the `OddRatio` tables of ``fourbit_onnx/ops/reference``, and prints their coefficients.

Phi(x) - 1/2 is odd, and so are the slope of GELU, Phi(x) + x * phi(x), less 1/2, and tanh: each is
x * P(x**2) / Q(x**2), and beyond a limit it is constant. The largest error is made small by least squares
whose weights grow where the error is large (Lawson's algorithm); the divisor of the round before makes the
problem linear.

Degrees are the smallest with which the error is less than float32's rounding. A limit is where the rest is
below it, too, and where the float32 evaluation, with its roundings, ends at 1/2 (1 of tanh) exactly: found by
trying.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from numpy.typing import NDArray

Array = NDArray[np.float64]
POINTS, ROUNDS = 4000, 60


def cdf(x: Array) -> Array:
    """Phi(x) - 1/2, Phi the standard normal distribution function."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x]) - 0.5


def slope(x: Array) -> Array:
    """The derivative of x * Phi(x), less 1/2."""
    return cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


# What is fitted, up to which x, and the degrees of P and Q in x**2.
FITS: dict[str, tuple[Callable[[Array], Array], float, int, int]] = {
    "CDF": (cdf, 5.5, 5, 5),
    "SLOPE": (slope, 6.15, 7, 6),
    "TANH": (np.tanh, 8.75, 4, 4),
}


def fit(
    function: Callable[[Array], Array], limit: float, top: int, bottom: int
) -> tuple[Array, Array, float]:
    """Coefficients of P and Q, the constant first; Q begins with 1. And the largest error."""
    x = limit * np.sin((np.arange(POINTS) + 0.5) / POINTS * np.pi / 2)  # dense at the limit
    wanted = function(x)
    s = (x / limit) ** 2
    basis = chebyshev.chebvander(2 * s - 1, max(top, bottom))
    matrix = np.hstack([x[:, None] * basis[:, : top + 1], -(wanted * s)[:, None] * basis[:, :bottom]])
    weights, divisor, least = np.ones(POINTS), np.ones(POINTS), np.inf
    best = np.zeros(top + 1 + bottom)
    for number in range(ROUNDS):
        scale = np.sqrt(weights) / divisor
        found = np.linalg.lstsq(matrix * scale[:, None], wanted * scale, rcond=1e-16)[0]
        divisor = 1 + s * (basis[:, :bottom] @ found[top + 1 :])
        error = np.abs(x * (basis[:, : top + 1] @ found[: top + 1]) / divisor - wanted)
        if error.max() < least and (divisor > 0).all():
            best, least = found, float(error.max())
        if number >= 5:  # the divisor has settled
            weights *= error / error.max() + 1e-3
            weights /= weights.mean()
    p = _powers(best[: top + 1], limit)
    return p, np.concatenate([[1.0], _powers(best[top + 1 :], limit) / limit**2]), least


def _powers(series: Array, limit: float) -> Array:
    """Of a Chebyshev series in 2 * s - 1, s = (x / limit)**2: the coefficients in x**2."""
    coefficients: Array = np.zeros(1)
    for factor in chebyshev.cheb2poly(series)[::-1]:
        coefficients = polynomial.polyadd(polynomial.polymul(coefficients, [-1.0, 2.0]), [factor])
    coefficients = coefficients[: len(series)]
    return coefficients / limit ** (2.0 * np.arange(len(series)))


if __name__ == "__main__":
    for name, wanted_fit in FITS.items():
        p, q, error = fit(*wanted_fit)
        print(f"{name}: largest error {error:.1e}")
        print("   ", ", ".join(str(np.float32(value)) for value in p))
        print("   ", ", ".join(str(np.float32(value)) for value in q))
