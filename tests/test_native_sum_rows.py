"""Sums of rows: body, kernel and NumPy have the same bits; the textbook's numbers."""

import math

import numpy as np
import pytest
from native import check, needs_library, refusal, run

from fourbit_onnx.ops.reference import sum_rows

F = np.float32
# Shape of x, and the first axis of a row.
CASES = [
    ((1, 1), -1),
    ((7, 1), 1),
    ((6,), 0),
    ((6,), 1),
    ((4, 5), 1),
    ((3, 4, 33), -1),
    ((3, 4, 33), 1),
    ((2, 3, 4, 5), -2),
    ((64, 16), 1),
    ((65, 17), 1),
    ((63, 20), 1),
    ((3, 39, 9), 2),  # 117 rows: a whole block, six eights and five
    ((2, 97, 40), 2),
    ((513, 8), 1),
    ((70, 256), 1),
    ((129, 257), 1),
    ((5, 1000), 1),
]


def case(shape, seed=0):
    return {"x": np.random.default_rng(seed).normal(0.5, 1, shape).astype(F)}


@needs_library
@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_same_bits(shape, axis):
    (total,) = check("SumRows", case(shape), (), {"axis": axis})
    assert total.shape == (shape[axis:] if axis < len(shape) else ())


@needs_library
def test_every_number_of_rows_of_a_block():
    for rows in range(1, 67):
        check("SumRows", case((rows, 3), rows))


@needs_library
def test_minus_nought_stays_and_infinity_spreads_in_its_column():
    x = np.full((75, 5), -0.0, F)
    (total,) = check("SumRows", {"x": x})
    assert np.signbit(total).all()
    x[70, 2] = np.inf
    assert np.isfinite(run("SumRows", {"x": x})[0]).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(("shape", "axis"), CASES, ids=str)
def test_the_textbook(shape, axis):
    """Off by a half ulp of the sum of magnitudes for each of the rounds, log2(rows) of them."""
    x = case(shape, 1)["x"]
    axes = tuple(range(axis % len(shape) if axis < len(shape) else axis))
    wide = x.astype(np.float64)
    rounds = math.ceil(math.log2(math.prod(shape[: len(axes)])))
    assert (
        np.abs(sum_rows(x, axis=axis) - wide.sum(axes)) <= rounds * 2.0**-24 * np.abs(wide).sum(axes)
    ).all()


@needs_library
@pytest.mark.parametrize(
    ("shape", "axis", "message"),
    [
        ((0, 4), 1, "x must have elements and an axis 1; its shape is [0, 4]"),
        ((3, 4), 3, "x must have elements and an axis 3; its shape is [3, 4]"),
        ((3, 4), -3, "an axis -3"),
        ((), -1, "its shape is []"),
    ],
)
def test_what_has_no_rows_is_refused(shape, axis, message):
    assert message in refusal("SumRows", {"x": np.ones(shape, F)}, (), {"axis": axis})
