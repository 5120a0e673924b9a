"""Definitions in exact arithmetic, slow and obvious, for tests of the formats."""

from fractions import Fraction

import numpy as np

F32 = np.float32
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
LARGEST = float(np.finfo(np.float32).max)

# Powers of two (where a reciprocal would do), and numbers for which x * (1 / scale) is not x / scale.
SCALES = [1.0, 2.0**-100, 2.0**60, *np.random.default_rng(1).uniform(0.1, 10, 40), 3e-30, 1.7e30]


def quotient(x, scale):
    """float32 division by way of float64, which has more than twice the bits: no double rounding.

    Only where the result is a normal number or 0.
    """
    return np.asarray(np.asarray(x, np.float64) / np.float64(scale)).astype(np.float32)


def half_even(number):
    """The nearest integer to a finite float, the even one of two: what ``round`` of a fraction is."""
    return round(Fraction(float(number)))


def neighbours(x):
    """Every number of ``x`` in float32, the next below and the next above."""
    x = np.asarray(x, np.float32)
    return np.concatenate([x, np.nextafter(x, F32(-np.inf)), np.nextafter(x, F32(np.inf))])


def bits(x):
    """The bit patterns of float32 numbers: -0 is not 0 here."""
    return np.ascontiguousarray(x, np.float32).view(np.uint32)
