import pytest
from graphs import graph, text

from fourbit_onnx.passes.explicit_casts import explicit_casts

SIGNATURE = "(float[2, 3] x) => (float[2, 3] y)"
CASTS = "h = Cast <to = 10> (x) r = Cast <to = 1> (h)"


def test_spells_out():
    g = graph(SIGNATURE, "r = ai.fourbit.RoundFloat16 (x) y = Neg (r)")
    assert explicit_casts(g) == 1
    assert text(g) == text(graph(SIGNATURE, f"{CASTS} y = Neg (r)"))
    assert explicit_casts(g) == 0


def test_two_in_a_row():
    """Two in a row, as where one product feeds the next, and at a graph output."""
    g = graph(SIGNATURE, "r = ai.fourbit.RoundFloat16 (x) y = ai.fourbit.RoundFloat16 (r)")
    assert explicit_casts(g) == 2
    expected = f"{CASTS} k = Cast <to = 10> (r) y = Cast <to = 1> (k)"
    assert text(g) == text(graph(SIGNATURE, expected))
    assert [tensor.name for tensor in g.outputs] == ["y"]


@pytest.mark.parametrize("body", ["y = other.RoundFloat16 (x)", "y = Neg (x) z = Abs (x)"])
def test_leaves_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert explicit_casts(g) == 0
    assert text(g) == before
