"""The gradient of layer normalisation: body, kernel and NumPy have the same bits; the textbook's numbers."""

import math

import numpy as np
import pytest
from native import check, needs_library, run

from fourbit_onnx.ops.reference import layer_norm_grad
from fourbit_onnx.ops.reference.layer_norm import halves, pairs

F = np.float32
# Shape of x, and how many axes are a row.
CASES = [
    ((1, 1), 1),
    ((1, 9), 1),
    ((7, 1), 1),
    ((4, 5), 1),
    ((3, 4, 33), 1),
    ((2, 3, 4, 5), 2),
    ((6,), 1),
    ((64, 16), 1),
    ((65, 17), 1),
    ((63, 20), 1),
    ((3, 39, 9), 1),  # 117 rows: 64, 32, 16, 4 and 1
    ((2, 97, 40), 1),
    ((513, 8), 1),
    ((5, 1000), 1),
]


def case(shape, axes, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 1, shape) * size + rng.normal(0, 2)).astype(F)
    row = tuple(range(len(shape) - axes, len(shape)))
    var = x.astype(np.float64).var(row, keepdims=True)
    return {
        "dy": rng.normal(0, 1, shape).astype(F),
        "x": x,
        "scale": rng.normal(1, 0.5, shape[len(shape) - axes :]).astype(F),
        "mean": x.mean(row, keepdims=True, dtype=np.float64).astype(F),
        "inv_std": (1 / np.sqrt(var + 1e-5)).astype(F),
    }


@needs_library
@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
def test_same_bits(shape, axes):
    check("LayerNormGrad", case(shape, axes))


@needs_library
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e18])
def test_same_bits_of_odd_sizes(size):
    check("LayerNormGrad", case((5, 21), 1, size=size))


@needs_library
def test_minus_nought_stays_and_infinity_spreads_in_its_row_and_column():
    inputs = case((3, 5), 1) | {"dy": np.full((3, 5), -0.0, F), "scale": np.ones(5, F)}
    dx, dscale, dbias = check("LayerNormGrad", inputs)
    assert np.signbit(dbias).all()
    inputs["dy"][1, 2] = np.inf
    dx, dscale, dbias = run("LayerNormGrad", inputs)
    assert np.isfinite(dx).all(1).tolist() == [True, False, True]
    assert np.isfinite(dscale).tolist() == np.isfinite(dbias).tolist() == [True, True, False, True, True]


def test_the_order_of_the_sums():
    """2**24 + 1 is 2**24, + 2 is not: who meets whom is seen in the sum."""
    large = 2.0**24
    assert halves(F([[large, 1, 1]])) == large  # (large + 1), 1
    assert halves(F([[large, 0, 1, 1]])) == large  # (large + 1) + (0 + 1)
    assert halves(F([[large, 1, 0, 1]])) == large + 2  # (large + 0) + (1 + 1)
    assert pairs(F([[large], [1], [1]])) == large  # (large + 1), 1
    assert pairs(F([[large], [0], [1], [1]])) == large + 2  # (large + 0) + (1 + 1)
    assert pairs(F([[large], [1], [0], [1]])) == large  # (large + 1) + (0 + 1)
    rng = np.random.default_rng(0)
    integers = rng.integers(-99, 99, (37, 37)).astype(F)
    np.testing.assert_array_equal(halves(integers)[:, 0], integers.sum(1))
    np.testing.assert_array_equal(pairs(integers)[0], integers.sum(0))


@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
def test_the_textbook(shape, axes):
    """A term is the result of at most 4 operations, a sum of k of them of log2(k) more.

    So a sum is off by as many half ulps of the sum of the magnitudes; dx adds 4 operations on numbers that
    are not larger than those magnitudes.
    """
    inputs = case(shape, axes, seed=1)
    dx, dscale, dbias = layer_norm_grad(**inputs)
    n = inputs["scale"].size
    wide = {name: value.astype(np.float64) for name, value in inputs.items()}
    dy, x = wide["dy"].reshape(-1, n), wide["x"].reshape(-1, n)
    inv_std = wide["inv_std"].reshape(-1, 1)
    xhat = (x - wide["mean"].reshape(-1, 1)) * inv_std
    g = dy * wide["scale"].reshape(1, -1)
    unit = 2.0**-24

    def near(found, expected, magnitude, operations):
        assert (np.abs(found.reshape(expected.shape) - expected) <= operations * unit * magnitude).all()

    steps = 4 + math.ceil(math.log2(len(x) + 1))
    near(dscale, (dy * xhat).sum(0), np.abs(dy * xhat).sum(0), steps)
    near(dbias, dy.sum(0), np.abs(dy).sum(0), steps)
    along = xhat * (g * xhat).mean(1, keepdims=True)
    expected = (g - g.mean(1, keepdims=True) - along) * inv_std
    magnitude = (
        np.abs(g) + np.abs(g).mean(1, keepdims=True) + np.abs(xhat) * np.abs(g * xhat).mean(1, keepdims=True)
    )
    near(dx, expected, magnitude * inv_std, 8 + math.ceil(math.log2(n + 1)))


@needs_library
def test_outputs_may_be_unwanted():
    inputs = case((70, 9), 1)
    whole = dict(zip(["dx", "dscale", "dbias"], run("LayerNormGrad", inputs), strict=True))
    for name, value in whole.items():
        assert run("LayerNormGrad", inputs, (), None, [name])[0].tobytes() == value.tobytes()


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    good = case((3, 4), 1)
    bad = {
        "x must have elements, in whole rows of scale, [5]; its shape is [3, 4]": {"scale": np.ones(5, F)},
        "mean must have one number for each of the 3 rows; its shape is [4]": {"mean": np.ones(4, F)},
        "inv_std must have one number for each of the 3 rows": {"inv_std": np.ones((1, 1), F)},
        "dy must have the shape of x, [3, 4]; it has [4, 3]": {"dy": np.ones((4, 3), F)},
    }
    for message, part in bad.items():
        with pytest.raises(Exception, match=r"ai\.fourbit") as caught:
            run("LayerNormGrad", good | part)
        assert message in str(caught.value)
