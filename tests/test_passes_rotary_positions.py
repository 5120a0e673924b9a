"""Angles of rotary positions are multiplied by MatMul, as Llamas do, and are no site."""

import numpy as np
import pytest
from graphs import model
from training_graph import compiled

VALUES = {
    "frequencies": 0.5 ** np.arange(4, dtype=np.float32).reshape(4, 1),
    "turned_frequencies": 0.5 ** np.arange(4, dtype=np.float32).reshape(1, 4),
    "w": np.eye(8, 4, dtype=np.float32),
    "v": np.eye(4, 8, dtype=np.float32),
}
# The MatMul, of positions (1, S), their column (S, 1), or both of the batch (N, 1, S).
ANGLES = {
    "frequency by position": "[angles] p = MatMul (frequencies, row) a = Transpose <perm = [1, 0]> (p)",
    "position by frequency": "[angles] a = MatMul (column, turned_frequencies)",
    "for each of a batch": "b = Unsqueeze (column, axis0) f = Unsqueeze (turned_frequencies, axis0)"
    " [angles] q = MatMul (b, f) a = Squeeze (q, axis0)",
    "two terms": "two = Concat <axis = 1> (column, column)"
    " more = Concat <axis = 0> (turned_frequencies, turned_frequencies) [angles] a = MatMul (two, more)",
}


def sites(product, freeze):
    body = f"""
        zero = Constant <value = int64 {{0}}> () step = Constant <value = int64 {{1}}> ()
        axis0 = Constant <value_ints = [0]> () axis1 = Constant <value_ints = [1]> ()
        sizes = Shape (x) length = Gather (sizes, step) numbers = Range (zero, length, step)
        positions = Cast <to = 1> (numbers) row = Unsqueeze (positions, axis0)
        column = Unsqueeze (positions, axis1)
        {product} c = Cos (a) [first] h = MatMul (x, w) g = Mul (h, c) [last] y = MatMul (g, v)
    """
    proto = model("(float[N,S,8] x) => (float[N,S,8] y)", body, VALUES)
    return [site.name for site in compiled(proto, "ibm2020-notpr", loss="mse", freeze=freeze).plan.sites]


@pytest.mark.parametrize("product", ANGLES.values(), ids=ANGLES)
def test_angles_that_sum_nothing_are_no_site(product):
    expected = {"first", "last"} | ({"angles"} if "two" in product else set())
    assert set(sites(product, ["*frequencies"])) == expected


@pytest.mark.parametrize("product", ANGLES.values(), ids=ANGLES)
def test_trained_ones_are_a_site(product):
    """As a layer of one feature is."""
    assert set(sites(product, ())) == {"first", "last", "angles"}
