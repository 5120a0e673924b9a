"""The gradient of a softmax: body, kernel and NumPy have the same bits; the textbook's numbers."""

import math

import numpy as np
import pytest
from native import check, needs_library, refusal, run

from fourbit_onnx.ops.reference import softmax_grad

F = np.float32
SHAPES = [
    (1,),
    (9,),
    (3, 1),
    (1, 2),
    (17, 5),
    (16, 16),
    (33, 31),
    (15, 32),
    (5, 33),
    (2, 3, 4, 63),
    (2, 8, 16, 128),
    (40, 129),
    (20, 400),  # ten rows at a time
    (3, 5000),
]


def case(shape, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    e = np.exp(rng.normal(0, 2, shape))
    return {
        "dy": rng.normal(0, size, shape).astype(F),
        "y": (e / e.sum(-1, keepdims=True)).astype(F),
    }


@needs_library
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits(shape):
    check("SoftmaxGrad", case(shape))


@needs_library
@pytest.mark.parametrize("size", [0.0, 1e-38, 1e38])
def test_same_bits_of_odd_sizes(size):
    check("SoftmaxGrad", case((5, 21), 1, size))


@needs_library
def test_infinity_stays_in_its_row():
    inputs = case((20, 40))
    inputs["dy"][7, 2] = np.inf
    (dx,) = run("SoftmaxGrad", inputs)
    assert np.isfinite(dx).all(1).tolist() == [row != 7 for row in range(20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_textbook(shape):
    """A term of the sum is off by a half ulp, the sum by log2(n) more; then come two operations."""
    inputs = case(shape, 1)
    dy, y = (value.astype(np.float64) for value in inputs.values())
    expected = y * (dy - (dy * y).sum(-1, keepdims=True))
    magnitude = y * (np.abs(dy) + np.abs(dy * y).sum(-1, keepdims=True))
    operations = 3 + math.ceil(math.log2(shape[-1]))
    assert (np.abs(softmax_grad(**inputs) - expected) <= operations * 2.0**-24 * magnitude).all()


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    for dy, y, message in (
        (np.ones((3, 4), F), np.ones((4, 3), F), "y must have the shape of dy, [3, 4]; it has [4, 3]"),
        (np.ones((3, 0), F), np.ones((3, 0), F), "y must have a last axis and elements; its shape is [3, 0]"),
        (F(1), F(1), "y must have a last axis and elements; its shape is []"),
    ):
        assert message in refusal("SoftmaxGrad", {"dy": dy, "y": y})
