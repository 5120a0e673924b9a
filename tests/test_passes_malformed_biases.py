"""A bias of zeros that is no vector, as PyTorch 2.13 writes it, is left out; no other one."""

import numpy as np
import pytest
from graphs import graph, text

from fourbit_onnx.passes.malformed_biases import malformed_biases

SIGNATURE = "(float[N,2,5] x) => (float[N,4,3] y)"
CONSTANTS = {
    "w": np.ones((4, 2, 3), np.float32),
    "nought": np.float32(0),
    "half": np.float32(0.5),
    "square": np.array([4, 2]),
    "row": np.array([4]),
    "table": np.zeros((4, 2), np.float32),
}


def test_a_table_of_zeros():
    g = graph(SIGNATURE, "b = Expand (nought, square) y = Conv (x, w, b)", CONSTANTS, infer=True)
    assert malformed_biases(g) == 1
    assert text(g) == text(graph(SIGNATURE, "y = Conv (x, w)", {"w": CONSTANTS["w"]}))
    assert malformed_biases(g) == 0


LEFT_ALONE = {
    "a vector": "b = Expand (nought, row) y = Conv (x, w, b)",
    "another number": "b = Expand (half, square) y = Conv (x, w, b)",
    "no Expand": "y = Conv (x, w, table)",
    "no bias": "y = Conv (x, w)",
    "another operator": "b = Expand (nought, square) y = other.Conv (x, w, b)",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body, CONSTANTS, infer=True)
    before = text(g)
    assert malformed_biases(g) == 0
    assert text(g) == before
