"""BatchNorm and its gradient: body, kernel and NumPy have the same bits, the right numbers, in any order."""

import numpy as np
import pytest
from native import check, needs_library, refusal, run

pytestmark = needs_library
F = np.float32
SHAPES = [
    (1, 1),
    (2, 3),
    (32, 5),
    (4, 3, 1),
    (3, 2, 7),
    (2, 17, 4, 4),
    (5, 3, 7, 9),
    (1, 2, 300),
    (2, 3, 2, 3, 5),
]
NAMES = ("gamma", "beta", "running_mean", "running_var")


def parameters(channels, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.2, 2, channels).astype(F) for name in NAMES}


def numbers(shape, seed=0, spread=1.0):
    """Channels of quite different size and offset."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.normal(0, spread, shape[1])).reshape(1, -1, *[1] * (len(shape) - 2))
    return ((rng.normal(0, 1, shape) + rng.normal(0, 2, size.shape)) * size).astype(F)


def both(x, dy, attributes=None):
    """Forward and backward: outputs by name."""
    found = parameters(x.shape[1])
    forward = check("BatchNorm", {"x": x, **found}, (), attributes)
    y, new_mean, new_var, mean, inv_std = forward
    inputs = {"dy": dy, "x": x, "gamma": found["gamma"], "mean": mean, "inv_std": inv_std}
    dx, dgamma, dbeta = check("BatchNormGrad", inputs)
    return {
        "y": y, "new_mean": new_mean, "new_var": new_var, "mean": mean, "inv_std": inv_std,
        "dx": dx, "dgamma": dgamma, "dbeta": dbeta,
    }  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits(shape):
    both(numbers(shape, 1), numbers(shape, 2, 4.0))


ODD = {
    "zeros": np.zeros((3, 2, 5), F),
    "constant": np.full((3, 2, 5), 0.3, F),
    "minus zeros": -np.zeros((3, 2, 5), F),
    "subnormal": numbers((3, 2, 5), 3) * F(1e-44),
    "tiny": numbers((3, 2, 5), 3) * F(1e-28),
    "huge": numbers((3, 2, 5), 3) * F(1e36),
    "far from zero": F(1000) + numbers((3, 2, 50), 4, 0.0),
    "one outlier": np.where(np.arange(90).reshape(3, 2, 15) == 40, F(1e6), numbers((3, 2, 15), 5)),
}


@pytest.mark.parametrize("name", ODD)
def test_same_bits_of_odd_tensors(name):
    x = ODD[name]
    both(x, np.ones(x.shape, F), {"epsilon": 1e-3, "momentum": 0.99})
    if name != "huge":  # its product with a normalised x may overflow, and is refused then
        both(numbers(x.shape, 6), x)


def test_a_long_channel_of_nearly_one_value():
    """Sums of blocks at their bound, and a variance that rounding alone would make negative.

    Every u is 2**19 but one, which is 1 less: in float64 mean(u * u) - mean(u)**2 is -2**-15.
    """
    x = np.ones((2, 1, 16_396), F)
    x[1, 0, 7] -= 2.0**-19
    state = {**parameters(1), "running_var": np.zeros(1, F)}
    _, _, new_var, mean, _ = check("BatchNorm", {"x": x, **state})
    assert (new_var[0], mean[0]) == (0, 1)


def truth(x, dy, epsilon=1e-5, momentum=0.9):
    """The textbook in float64."""
    found = {name: value.astype(np.float64) for name, value in parameters(x.shape[1]).items()}
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    axes = (0, *range(2, x.ndim))
    column = (1, -1, *[1] * (x.ndim - 2))
    mean, var = x.mean(axes), x.var(axes)
    inv_std = 1 / np.sqrt(var + epsilon)
    xhat = (x - mean.reshape(column)) * inv_std.reshape(column)
    dgamma, dbeta = (dy * xhat).sum(axes), dy.sum(axes)
    n = x.size / x.shape[1]
    gamma = found["gamma"]
    dx = dy - dbeta.reshape(column) / n - xhat * dgamma.reshape(column) / n
    return {
        "y": xhat * gamma.reshape(column) + found["beta"].reshape(column),
        "new_mean": found["running_mean"] * momentum + mean * (1 - momentum),
        "new_var": found["running_var"] * momentum + var * (1 - momentum),
        "mean": mean, "inv_std": inv_std,
        "dx": dx * (gamma * inv_std).reshape(column), "dgamma": dgamma, "dbeta": dbeta,
    }  # fmt: skip


@pytest.mark.parametrize("shape", [(8, 3, 16, 16), (64, 7), (4, 2, 500)], ids=str)
def test_the_textbook(shape):
    """Each element of u is off by half a unit, max|x| * 2**-19, at most: here 5 standard deviations * 2**-20.

    So is the mean, at most, and the standard deviation by that times a small number. What follows are a few
    operations of float32 on numbers below 10, and sums whose terms are off by as much.
    """
    x, dy = numbers(shape, 7), numbers(shape, 8)
    found, expected = both(x, dy), truth(x, dy)
    tolerance = 16 * 5 * 2.0**-20
    for name, value in found.items():
        scale = np.abs(expected[name]).max(
            axis=tuple(i for i in range(value.ndim) if i != 1 or value.ndim == 1)
        )
        error = np.abs(value - expected[name]).max(
            axis=tuple(i for i in range(value.ndim) if i != 1 or value.ndim == 1)
        )
        if name in ("dgamma", "dbeta"):  # sums that cancel: relative to the sum of magnitudes
            scale = np.abs(dy.astype(np.float64)).sum() * 5
        assert (error <= tolerance * scale).all(), name


def test_no_order_of_the_elements_matters():
    x, dy = numbers((6, 3, 40), 9), numbers((6, 3, 40), 10)
    order = np.random.default_rng(0).permutation(240)

    def moved(a):
        rows = a.transpose(1, 0, 2).reshape(3, -1)[:, order]
        return np.ascontiguousarray(rows.reshape(3, 6, 40).transpose(1, 0, 2))

    one, other = both(x, dy), both(moved(x), moved(dy))
    for name, value in one.items():
        expected = moved(value) if value.ndim == 3 else value
        assert expected.tobytes() == other[name].tobytes(), name


def test_outputs_may_be_unwanted():
    x = numbers((4, 3, 10), 11)
    inputs = {"x": x, **parameters(3)}
    whole = dict(zip(["y", "new_mean", "new_var", "mean", "inv_std"], run("BatchNorm", inputs), strict=True))
    for name, value in whole.items():
        assert run("BatchNorm", inputs, (), None, [name])[0].tobytes() == value.tobytes()
    inputs = {"dy": x, "x": x, "gamma": inputs["gamma"], "mean": whole["mean"], "inv_std": whole["inv_std"]}
    for name, value in zip(["dx", "dgamma", "dbeta"], run("BatchNormGrad", inputs), strict=True):
        assert run("BatchNormGrad", inputs, (), None, [name])[0].tobytes() == value.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    x = numbers((2, 3, 4), 12)
    good = {"x": x, **parameters(3)}
    *_, mean, inv_std = run("BatchNorm", good)
    grad = {"dy": x, "x": x, "gamma": good["gamma"], "mean": mean, "inv_std": inv_std}
    wrong = x.copy()
    wrong[1, 2, 3] = bad
    assert f"x[1, 2, 3] is {F(bad)}" in refusal("BatchNorm", good | {"x": wrong})
    assert "has_nan_or_infinity" in refusal("BatchNorm", good | {"x": wrong}, native=False)
    assert f"dy[1, 2, 3] is {F(bad)}" in refusal("BatchNormGrad", grad | {"dy": wrong})
    assert "s_nan_or_infinity" in refusal("BatchNormGrad", grad | {"dy": wrong}, native=False)
    assert "dy times the normalised x is not finite" in refusal("BatchNormGrad", grad | {"x": wrong})
    assert "s_nan_or_infinity" in refusal("BatchNormGrad", grad | {"x": wrong}, native=False)


def test_shapes_that_do_not_fit_are_refused():
    x = np.ones((2, 3, 4), F)
    good = {"x": x, **parameters(3)}
    assert "gamma must have one number for each of the 3 channels; its shape is [2]" in refusal(
        "BatchNorm", good | {"gamma": np.ones(2, F)}
    )
    assert "a batch and a channel dimension, and elements; its shape is [0, 3]" in refusal(
        "BatchNorm", good | {"x": np.ones((0, 3), F)}
    )
    grad = {"dy": x, "x": x, "gamma": np.ones(3, F), "mean": np.ones(3, F), "inv_std": np.ones(3, F)}
    assert "dy must have the shape of x, [2, 3, 4]; it has [2, 4, 3]" in refusal(
        "BatchNormGrad", grad | {"dy": np.ones((2, 4, 3), F)}
    )
    assert "inv_std must have one number for each" in refusal(
        "BatchNormGrad", grad | {"inv_std": np.ones(4, F)}
    )
