"""A gradient that passes where a mask is 1: what only it adds is added by it."""

import pytest
from graphs import graph, text

from fourbit_onnx.passes.read_mask import read_mask
from fourbit_onnx.passes.tidy import tidy

SIGNATURE = "(float[N,4] d, float[N,4] e, uint8[B] k) => (float[N,4] dx, float[N,4] y)"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[g] dx = Neg (d) y = Abs (d)", "[g] dx = ai.fourbit.ReluGrad (d, k) y = Abs (d)"),
        (
            "s = Sum (d, e) [g] dx = Selu <alpha = 2.0> (s) y = Abs (d)",
            "[g] dx = ai.fourbit.SumReluGrad (d, e, k) y = Abs (d)",
        ),
        (
            "s = Sum (d, e) [g] dx = Neg (s) y = Abs (s)",
            "s = Sum (d, e) [g] dx = ai.fourbit.ReluGrad (s, k) y = Abs (s)",
        ),
        (
            "s = Sum (d, e, d) [g] dx = Neg (s) y = Abs (d)",
            "s = Sum (d, e, d) [g] dx = ai.fourbit.ReluGrad (s, k) y = Abs (d)",
        ),
        ("y = Sum (d, e) [g] dx = Neg (y)", "y = Sum (d, e) [g] dx = ai.fourbit.ReluGrad (y, k)"),
    ],
    ids=["nothing added", "a sum of its own", "a sum with readers", "a sum of three", "an output"],
)
def test_read_mask(before, after):
    g = graph(SIGNATURE, before)
    node = next(node for node in g.nodes if node.name == "g")
    mask = next(tensor for tensor in g.inputs if tensor.name == "k")
    read_mask(node, node.inputs[0], mask, {id(tensor) for tensor in g.outputs})
    tidy(g)
    assert text(g) == text(graph(SIGNATURE, after))
