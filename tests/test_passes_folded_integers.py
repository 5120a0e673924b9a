"""Integers of constants become constants; what is data, float or large stays."""

import tracemalloc

import numpy as np
import pytest
from graphs import exact, graph, run, text

from fourbit_onnx.passes.folded_integers import folded_integers

SIGNATURE = "(float[N,4] x) => (float[N,K] y)"
VALUES = {
    "pads": np.array([1, 2]),
    "two": np.array([2]),
    "first": np.array([0]),
    "minus": np.array([-1]),
    "least": np.array([-(2**63)]),
    "pairs": np.array([-1, 2]),
    "weight": np.ones(4, np.float32),
    "many": np.array([2**16 + 1]),
    "end": np.array(2**16 + 1),
    "start": np.array(0),
    "triple": np.array([1, 2, 3]),
    "triple_end": np.array([3]),
    "one": np.array([1]),
    "step": np.array(1),
    "row": np.zeros((1, 30_000), np.int64),
    "firsts": np.zeros(3, np.int64),
    "hundreds": np.arange(300),
    "column": np.arange(300).reshape(300, 1),
    "most": np.array([2**16]),
    "empty_last": np.array([2**20, 0]),
    "one_row": np.array([[1, 2]]),
}


def test_pads_as_the_older_exporter_computes_them():
    """``[1, 2]`` of the last axis first becomes ``[0, 1, 0, 2]``: begins of all axes, then ends."""
    body = """
        none = ConstantOfShape <value = int64[1] {0}> (two) all = Concat <axis = 0> (pads, none)
        p = Reshape (all, pairs) r = Slice (p, minus, least, first, minus) t = Transpose <perm = [1, 0]> (r)
        flat = Reshape (t, minus) numbers = Cast <to = 7> (flat) y = Pad (x, numbers)
    """
    g = graph(SIGNATURE, body, VALUES)
    assert folded_integers(g) == 7
    assert text(g) == text(graph(SIGNATURE, "y = Pad (x, n)", {"n": np.array([0, 1, 0, 2])}))
    assert folded_integers(g) == 0
    np.testing.assert_array_equal(run(g, {"x": np.ones((1, 4), np.float32)})["y"], [[0, 1, 1, 1, 1, 0, 0]])


FOLDED = {
    "as many as there may be": ("n = ConstantOfShape <value = int64[1] {3}> (most)", np.full(2**16, 3)),
    "the shape of a weight": ("n = Shape (weight)", np.array([4])),
    "sizes of data that are known": ("n = Shape <start = -1> (x)", np.array([4])),
    "no sizes": ("n = Shape <start = 1, end = 1> (x)", np.zeros(0, np.int64)),
    "without axes": ('n = Slice (triple, two, triple_end, "", one)', np.array([3])),
}


@pytest.mark.parametrize(("body", "expected"), FOLDED.values(), ids=FOLDED)
def test_folded(body, expected):
    g = graph(SIGNATURE, f"{body} y = other.Use (x, n)", VALUES)
    assert folded_integers(g) == 1
    [node] = g.nodes
    np.testing.assert_array_equal(node.inputs[1].values, expected)


LEFT_ALONE = {
    "floats": "f = Cast <to = 1> (pads) y = other.Use (x, f)",
    "weights": "f = Mul (weight, weight) y = Add (x, f)",
    "a size that is not known": "n = Shape <end = 1> (x) y = other.Use (x, n)",
    "the size of what is not known": "u = other.Make (x) n = Shape (u) y = other.Use (x, n)",
    "data": "s = Shape (x) d = Mul (s, two) y = Reshape (x, d)",
    "large": "n = ConstantOfShape <value = int64[1] {0}> (many) y = other.Use (x, n)",
    "a large Expand": "n = Expand (two, many) y = other.Use (x, n)",
    "a large Tile": "n = Tile (pads, many) y = other.Use (x, n)",
    "a Tile that is large before it is empty": "n = Tile (one_row, empty_last) y = other.Use (x, n)",
    "a large Gather": "n = Gather <axis = 0> (row, firsts) y = other.Use (x, n)",
    "a large sum": "n = Add (column, hundreds) y = other.Use (x, n)",
    "large ones joined": "n = Concat <axis = 1> (row, row, row) y = other.Use (x, n)",
    "a large Range": "n = Range (start, end, step) y = other.Use (x, n)",
    "a Range that ends nowhere": "n = Range (start, end, start) y = other.Use (x, n)",
    "a Range of lists": "n = Range (pads, end, step) y = other.Use (x, n)",
    "what does not fit": "n = Add (pads, triple) y = other.Use (x, n)",
    "another domain": "n = other.Add (pads, two) y = Pad (x, n)",
    "divided by zero": "n = Div (pads, first) y = other.Use (x, n)",
    "a remainder of zero": "n = Mod (pads, first) y = other.Use (x, n)",
    "a quotient that float64 rounds": "n = Div (least, two) y = other.Use (x, n)",
    "what fails": "n = Reshape (pads, many) y = other.Use (x, n)",
    "random": "n = Bernoulli (pads) y = other.Use (x, n)",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(body):
    g = graph(SIGNATURE, body, VALUES)
    before = exact(g)
    assert folded_integers(g) == 0
    assert exact(g) == before


def test_a_large_mask_is_not_read():
    """It was made a list of its numbers, for each node that reads it: 0.1 s for 1,024 tokens."""
    g = graph(SIGNATURE, "n = Slice (mask, first, two) y = other.Use (x, n)",
              VALUES | {"mask": np.ones(2**22, bool)})  # fmt: skip
    tracemalloc.start()
    assert folded_integers(g) == 0
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20


def test_an_output_stays():
    g = graph("(float[N,4] x) => (int64[2] y)", "y = Mul (pads, two)", VALUES)
    assert folded_integers(g) == 0
    assert [node.op for node in g.nodes] == ["Mul"]
    g = graph("(float[2,4] x) => (int64[2] y)", "y = Shape (x)")
    assert folded_integers(g) == 0
    assert [node.op for node in g.nodes] == ["Shape"]
