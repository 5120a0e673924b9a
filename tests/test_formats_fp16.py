import math
from fractions import Fraction

import numpy as np
import pytest
from exact import bits, neighbours

from fourbit_onnx.formats.fp16 import LARGEST, round_to_half


def expected(number):
    """binary16 by its definition: 11 bits of significand, exponents -14 to 15, half to even."""
    if number == 0 or not math.isfinite(number):
        return number
    step = Fraction(2) ** (max(math.frexp(number)[1] - 1, -14) - 10)
    rounded = float(round(Fraction(number) / step) * step)
    if abs(rounded) > LARGEST:
        rounded = math.inf
    return math.copysign(rounded, number)


def test_every_half_and_the_midpoints_between():
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(bits(round_to_half(halves)), bits(halves))
    x = neighbours(np.concatenate([(halves[:-1] + halves[1:]) / 2, [65520], halves[-3:]]))
    x = np.concatenate([x, -x])[::7]
    got = round_to_half(x)
    np.testing.assert_array_equal(bits(got), bits([expected(v) for v in x.tolist()]))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (65504, 65504),
        (65519.996, 65504),
        (65520, np.inf),  # half a step beyond the largest: a tie, and the even neighbour is infinity
        (-1e38, -np.inf),
        (2.0**-25, 0),  # a tie with 0
        (2.0**-25 * 1.001, 2.0**-24),
        (-(2.0**-26), -0.0),
        (np.inf, np.inf),
    ],
)
def test_ends(x, y):
    assert bits(round_to_half(x)) == bits(y)


def test_nan_passes_and_shapes_stay():
    assert np.isnan(round_to_half([np.nan, 1.0])).tolist() == [True, False]
    assert round_to_half(np.ones((0, 3))).shape == (0, 3)
    assert round_to_half(1.0).dtype == np.float32
