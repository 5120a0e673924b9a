"""Layer normalisation and its gradient: body, kernel and NumPy have the same bits; the textbook's numbers."""

import math

import numpy as np
import pytest
from native import check, needs_library, refusal, run

from fourbit_onnx.ops.reference import layer_norm, layer_norm_grad

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


def forward_case(shape, axes, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    of_row = shape[len(shape) - axes :]
    return {
        "x": (rng.normal(0, 1, shape) * size + rng.normal(0, 2)).astype(F),
        "scale": rng.normal(1, 0.5, of_row).astype(F),
        "bias": rng.normal(0, 1, of_row).astype(F),
    }


def backward_case(shape, axes, seed=0, size=1.0):
    given = forward_case(shape, axes, seed, size)
    _, mean, inv_std = layer_norm(**given)
    dy = np.random.default_rng(seed + 1).normal(0, 1, shape).astype(F)
    return {"dy": dy, "x": given["x"], "scale": given["scale"], "mean": mean, "inv_std": inv_std}


@needs_library
@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
def test_same_bits(shape, axes):
    check("LayerNorm", forward_case(shape, axes))
    check("LayerNormGrad", backward_case(shape, axes))


@needs_library
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e18, 1e30])
def test_same_bits_of_odd_sizes(size):
    """The squares of 1e30 are infinite, and so is the variance: nothing is left of x."""
    y, *_ = check("LayerNorm", forward_case((5, 21), 1, size=size), (), {"epsilon": 1e-3})
    assert np.isfinite(y).all()
    check("LayerNormGrad", backward_case((5, 21), 1, size=size))


@needs_library
def test_minus_nought_stays_and_infinity_spreads_in_its_row_and_column():
    inputs = backward_case((3, 5), 1) | {"dy": np.full((3, 5), -0.0, F), "scale": np.ones(5, F)}
    dx, dscale, dbias = check("LayerNormGrad", inputs)
    assert np.signbit(dbias).all()
    inputs["dy"][1, 2] = np.inf
    dx, dscale, dbias = run("LayerNormGrad", inputs)
    assert np.isfinite(dx).all(1).tolist() == [True, False, True]
    assert np.isfinite(dscale).tolist() == np.isfinite(dbias).tolist() == [True, True, False, True, True]


UNIT = 2.0**-24  # half an ulp of 1


def near(found, expected, magnitude, operations):
    assert (np.abs(found.reshape(expected.shape) - expected) <= operations * UNIT * magnitude).all()


@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
def test_the_textbook_forward(shape, axes):
    """A mean is off by log2(n) + 1 half ulps of the mean of magnitudes; x - mean by that and one of its own.

    The variance is off, relatively, by a rounding for each addition and four, and by the square of what the
    mean is off; 1 / standard deviation by half of that. y adds three operations.
    """
    inputs = forward_case(shape, axes, seed=1)
    y, mean, inv_std = layer_norm(**inputs)
    n = inputs["scale"].size
    x, scale, bias = (inputs[name].astype(np.float64).reshape(-1, n) for name in ("x", "scale", "bias"))
    sums = math.ceil(math.log2(n + 1)) + 1
    near(mean, x.mean(1, keepdims=True), np.abs(x).mean(1, keepdims=True), sums)
    off = sums * UNIT * np.abs(x).mean(1, keepdims=True)
    centred = x - x.mean(1, keepdims=True)
    var = (centred**2).mean(1, keepdims=True)
    expected = 1 / np.sqrt(var + 1e-5)
    var_off = (sums + 4) * UNIT * var + 2 * off * np.sqrt(var) + off**2
    relative = 0.5 * var_off / (var + 1e-5) + 2 * UNIT
    assert (np.abs(inv_std.reshape(-1, 1) - expected) <= relative * expected).all()
    magnitude = np.abs(centred * expected * scale)
    tolerance = (relative + 5 * UNIT) * magnitude + off * expected * np.abs(scale) + 2 * UNIT * np.abs(bias)
    assert (np.abs(y.reshape(-1, n) - (centred * expected * scale + bias)) <= tolerance).all()


@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
def test_the_textbook_backward(shape, axes):
    """A term is the result of at most 4 operations, a sum of k of them of log2(k) more.

    So a sum is off by as many half ulps of the sum of the magnitudes; dx adds 4 operations on numbers that
    are not larger than those magnitudes.
    """
    inputs = backward_case(shape, axes, seed=1)
    dx, dscale, dbias = layer_norm_grad(**inputs)
    n = inputs["scale"].size
    wide = {name: value.astype(np.float64) for name, value in inputs.items()}
    dy, x = wide["dy"].reshape(-1, n), wide["x"].reshape(-1, n)
    inv_std = wide["inv_std"].reshape(-1, 1)
    xhat = (x - wide["mean"].reshape(-1, 1)) * inv_std
    g = dy * wide["scale"].reshape(1, -1)
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
    for op, inputs, outputs in (
        ("LayerNorm", forward_case((70, 9), 1), ["y", "mean", "inv_std"]),
        ("LayerNormGrad", backward_case((70, 9), 1), ["dx", "dscale", "dbias"]),
    ):
        for name, value in zip(outputs, run(op, inputs), strict=True):
            assert run(op, inputs, (), None, [name])[0].tobytes() == value.tobytes()


@needs_library
def test_shapes_that_do_not_fit_are_refused():
    good, wide = backward_case((3, 4), 1), np.ones(5, F)
    rows = "x must have elements, in whole rows of scale, [5]; its shape is [3, 4]"
    bad = {
        rows: {"scale": wide},
        "mean must have one number for each of the 3 rows; its shape is [4]": {"mean": np.ones(4, F)},
        "inv_std must have one number for each of the 3 rows": {"inv_std": np.ones((1, 1), F)},
        "dy must have the shape of x, [3, 4]; it has [4, 3]": {"dy": np.ones((4, 3), F)},
    }
    for message, part in bad.items():
        assert message in refusal("LayerNormGrad", good | part)
    good = forward_case((3, 4), 1)
    assert rows in refusal("LayerNorm", good | {"scale": wide, "bias": wide})
    assert "bias must have the shape of scale, [4]; it has [5]" in refusal("LayerNorm", good | {"bias": wide})
