"""Angles of rotary positions are multiplied by MatMul, as Llamas do, and are no site."""

import numpy as np
import pytest
from graphs import graph, model
from training_graph import compiled

from fourbit_onnx.passes.select_sites import _is_table

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


# Operator, sizes of both operands, and whether nothing is summed.
TABLES = {
    "a column and a row": ("Gemm", "5,1", "1,3", True),
    "turned columns": ("Gemm <transA = 1>", "1,5", "1,3", True),
    "turned rows": ("Gemm <transB = 1>", "5,1", "3,1", True),
    "one of them is known": ("Gemm", "5,1", "K,3", True),
    "two terms": ("Gemm", "1,2", "2,3", False),
    "two turned terms": ("Gemm <transA = 1>", "2,1", "2,3", False),
    "two terms of turned rows": ("Gemm <transB = 1>", "5,2", "1,2", False),
    "a vector": ("MatMul", "5,2", "2", False),
    "a convolution": ("Conv", "1,1,1,1", "1,1,1,1", False),
}


@pytest.mark.parametrize(("op", "left", "right", "none"), TABLES.values(), ids=TABLES)
def test_what_sums_nothing(op, left, right, none):
    g = graph(f"(float[{left}] a, float[{right}] b) => (y)", f"y = {op} (a, b)")
    assert _is_table(g.nodes[0], set()) == none
    assert not _is_table(g.nodes[0], {id(g.nodes[0].inputs[1])})
