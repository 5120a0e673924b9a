"""Sums as trees: the order of the additions."""

import numpy as np

from fourbit_onnx.ops.reference.tree_sums import halves, pairs

F = np.float32


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
