"""The gradient of Gather: body, kernel and NumPy have the same bits, those of one order of additions."""

import numpy as np
import pytest
from native import check, needs_library, refusal

from fourbit_onnx.errors import GraphError
from fourbit_onnx.ops.reference import gather_grad

F = np.float32
# Shape, shape of the indices, axis.
CASES = [
    ((5,), (), 0),
    ((5,), (7,), 0),
    ((3, 4), (2, 3), 0),
    ((50, 200), (4, 16), 0),
    ((3, 4, 5), (2,), 1),
    ((2, 3, 70), (3, 2), 1),
    ((2, 3, 4), (), 2),
    ((3, 4), (0,), 0),
    ((3, 0), (2,), 0),
    ((0, 4), (0,), 0),
]


def case(shape, of_indices, axis, seed=0):
    rng = np.random.default_rng(seed)
    n = shape[axis]
    dy = rng.normal(0, 1, (*shape[:axis], *of_indices, *shape[axis + 1 :])).astype(F)
    indices = rng.integers(-n, n, of_indices) if n else np.zeros(of_indices, np.int64)
    return {"shape": np.array(shape), "indices": np.asarray(indices), "dy": dy}


@needs_library
@pytest.mark.parametrize(("shape", "of_indices", "axis"), CASES, ids=str)
def test_same_bits(shape, of_indices, axis):
    check("GatherGrad", case(shape, of_indices, axis), (), {"axis": axis})


@needs_library
def test_what_is_not_finite_stays_where_it_is():
    inputs = case((4, 3), (6,), 0)
    inputs["indices"] = np.array([0, 1, 1, -1, 0, 3])
    inputs["dy"][:, 1] = [np.nan, np.inf, 1, -np.inf, 1, 1]
    (dx,) = check("GatherGrad", inputs)
    np.testing.assert_array_equal(dx[:, 1], F([np.nan, np.inf, 0, -np.inf]))
    assert np.isfinite(dx[:, [0, 2]]).all()


def test_additions_are_in_the_order_of_the_indices():
    """1 is lost beside 2**24, but not two of them; 0 + -0 is 0."""
    indices = np.array([0, 0, 0, 2, 2, 2, 3])
    dy = F([[1], [1], [2**24], [2**24], [1], [1], [-0.0]])
    dx = gather_grad(np.array([4, 1]), indices, dy)
    np.testing.assert_array_equal(dx, F([[2**24 + 2], [0], [2**24], [0]]))
    assert not np.signbit(dx).any()


def test_it_is_the_gradient_of_take():
    """<dy, take(x)> = <dx, x>, in integers, which float32 adds exactly."""
    rng = np.random.default_rng(1)
    for shape, of_indices, axis in CASES[:7]:
        inputs = case(shape, of_indices, axis, seed=2)
        x, dy = rng.integers(-9, 9, shape), rng.integers(-9, 9, inputs["dy"].shape)
        dx = gather_grad(inputs["shape"], inputs["indices"], dy, axis=axis)
        assert (np.take(x, inputs["indices"], axis) * dy).sum() == (dx * x).sum()


@needs_library
def test_what_is_refused():
    good = case((3, 4), (2,), 0)
    assert "indices are from -3 to 2; one is 3" in refusal("GatherGrad", good | {"indices": np.array([0, 3])})
    assert "indices are from -3 to 2; one is -4" in refusal(
        "GatherGrad", good | {"indices": np.array([-4, 0])}
    )
    assert "dy must have the shape [2, 4] of what was gathered; it has [4, 2]" in refusal(
        "GatherGrad", good | {"dy": good["dy"].T.copy()}
    )
    assert "axis must be one of the axes of shape, [3, 4]; it is 2" in refusal(
        "GatherGrad", good, (), {"axis": 2}
    )
    with pytest.raises(GraphError, match="indices are from -3 to 2"):
        gather_grad(**good | {"indices": np.array([0, 3])})
