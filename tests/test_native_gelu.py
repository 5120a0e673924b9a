"""GELU and its gradient: body, kernel and NumPy have the same bits, and nearly those of the textbook."""

import math

import numpy as np
import onnx
import pytest
from native import check, needs_library, run

from fourbit_onnx.ops.reference import gelu, gelu_grad
from fourbit_onnx.ops.reference.gelu import CDF, SLOPE
from fourbit_onnx.ops.registry import FUNCTIONS

F = np.float32
SHAPES = [(0,), (), (1,), (7,), (16,), (3, 0, 2), (5, 7, 11), (16_385,), (2, 3, 16_384)]
LIMITS = F([5.5, 6.15])
EDGES = np.concatenate([LIMITS, np.nextafter(LIMITS, F(0)), np.nextafter(LIMITS, F(9))])
SPECIAL = F([np.inf, np.nan, 0.0, 1e-45, 1e-30, 3.4e38])
SPECIAL = np.concatenate([EDGES, -EDGES, SPECIAL, -SPECIAL])


def numbers(shape, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, shape).astype(F)
    return np.where(rng.random(shape) < 0.2, rng.choice(SPECIAL, shape), x).astype(F)


@needs_library
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits(shape):
    x, dy = numbers(shape, 1), np.random.default_rng(2).normal(0, 1, shape).astype(F)
    check("Gelu", {"x": x})
    check("GeluGrad", {"dy": dy, "x": x})


@needs_library
def test_same_bits_of_special_numbers():
    check("Gelu", {"x": SPECIAL})
    dy = np.where(np.isfinite(SPECIAL), SPECIAL[::-1], 1)  # which NaN a product of two is, no standard says
    check("GeluGrad", {"dy": dy.astype(F), "x": SPECIAL})


def some_floats(sign):
    """Every 509th float32 of one sign from 2**-20 to 8: 380,000, at all places of a binade."""
    low, high = np.array([2.0**-20, 8], F).view(np.uint32)
    return np.arange(low, high + 1, 509, dtype=np.uint32).view(F) * F(sign)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_textbook(sign):
    """The errors that the module states; what gelu adds is half an ulp of its result."""
    x = some_floats(sign)
    wide = x.astype(np.float64)
    phi = np.array([math.erfc(-value / math.sqrt(2)) / 2 for value in wide])
    slope = phi + wide * np.exp(-wide * wide / 2) / math.sqrt(2 * math.pi)
    assert np.abs(F(0.5) + CDF(CDF.from_below(x)) - phi).max() < 2.6e-7
    assert np.abs(gelu_grad(np.ones_like(x), x) - slope).max() < 3.3e-7
    assert (np.abs(gelu(x) - wide * phi) <= np.abs(wide) * (2.6e-7 + 2.0**-24)).all()


def test_where_it_ends():
    far = F([5.5, 6.15, 100, 3e38, np.inf])
    np.testing.assert_array_equal(gelu(far), far)
    ends = gelu(-far)
    np.testing.assert_array_equal(ends, 0)
    assert np.signbit(ends).all()
    np.testing.assert_array_equal(gelu_grad(np.ones(4, F), far[1:]), 1)
    np.testing.assert_array_equal(gelu_grad(np.ones(4, F), -far[1:]), 0)
    assert np.isnan([gelu(F(np.nan)), gelu_grad(F(1), F(np.nan))]).all()
    np.testing.assert_array_equal(gelu_grad(F([2, 3]), F([0, -0.0])), [1, 1.5])


@pytest.mark.parametrize(("op", "table"), [("Gelu", CDF), ("GeluGrad", SLOPE)])
def test_the_body_has_the_coefficients(op, table):
    """ONNX text rounds a decimal to the float32 that was meant."""
    held = [
        onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in FUNCTIONS[op].node
        if node.op_type == "Constant"
    ]
    np.testing.assert_array_equal(held, F([table.limit, *table.p, *table.q, 0.5]))


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(Exception, match=r"GeluGrad.*x must have the shape of dy, \[2, 9\]; it has \[9, 2\]"):
        run("GeluGrad", {"dy": np.ones((2, 9), F), "x": np.ones((9, 2), F)})
