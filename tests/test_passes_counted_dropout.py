"""Dropout from a counter: the graph, its share and size, and what is left alone."""

import numpy as np
import pytest
from graphs import check, exact, graph, run, text

from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.passes.counted_dropout import counted_dropout
from fourbit_onnx.passes.roles import Roles

SIGNATURE = "(float[N,4] x) => (float[N,4] y)"
COUNTED = "(float[N,4] x, int64 random_state) => (float[N,4] y, int64 n)"
VALUES = {"ratio": np.float32(0.25), "on": np.array(True), "half": np.float32(0.5)}
CONSTANTS = VALUES | {"unit": np.float32(1), "next": np.int64(1)}


def mask(stream, x, result, ratio="ratio"):
    """Lines of one replaced Dropout."""
    return (
        f" s{stream} = Shape ({x})"
        f" u{stream} = ai.fourbit.RandomUniform <stream = {stream}> (s{stream}, random_state)"
        f" k{stream} = GreaterOrEqual (u{stream}, {ratio}) o{stream} = Cast <to = 1> (k{stream})"
        f" h{stream} = Sub (unit, {ratio}) m{stream} = Div (o{stream}, h{stream})"
        f" {result} = Mul ({x}, m{stream})"
    )


NEXT = "n = Add (random_state, next)"
REPLACED = {
    "one": ("d, m = Dropout (x, ratio, on) y = Relu (d)", NEXT + mask(0, "x", "d") + " y = Relu (d)", 1),
    "an output": ("y = Dropout (x, ratio, on)", NEXT + mask(0, "x", "y"), 1),
    "two": (
        "[a] d, m = Dropout (x, ratio, on) r = Relu (d) [b] y, o = Dropout (r, half, on)",
        NEXT + mask(0, "x", "d") + " r = Relu (d)" + mask(1, "r", "y", "half"),
        2,
    ),
}
LEFT_ALONE = {
    "a mask that is read": "d, m = Dropout (x, ratio, on) c = Cast <to = 1> (m) y = Add (d, c)",
    "another Dropout": "y = other.Dropout (x, ratio, on) z = Abs (x)",
}


def counted(body, signature=SIGNATURE):
    g, roles = graph(signature, body, VALUES, infer=True), Roles(["x"], ["y"])
    return g, roles, counted_dropout(g, roles)


@pytest.mark.parametrize(("before", "after", "count"), REPLACED.values(), ids=REPLACED)
def test_replaced(before, after, count):
    g, roles, found = counted(before)
    assert found == count
    g.outputs[1].name = "n"  # random_state.new, which ONNX's syntax cannot write
    assert text(g) == text(graph(COUNTED, after, CONSTANTS))
    check(g)
    assert roles.quantizer_state == {"random_state": "random_state.new"}
    assert (roles.values["random_state"], roles.values["random_state"].dtype) == (0, np.int64)
    once = exact(g)
    assert counted_dropout(g, roles) == 0
    assert exact(g) == once


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_leaves_alone(body):
    g, roles = graph(SIGNATURE, body, VALUES), Roles(["x"], ["y"])
    before = exact(g)
    assert counted_dropout(g, roles) == 0
    assert exact(g) == before
    assert (roles.quantizer_state, roles.values) == ({}, {})


def test_a_mask_that_is_an_output_is_left_alone():
    assert counted("y, m = Dropout (x, ratio, on)", "(float[N,4] x) => (float[N,4] y, bool[N,4] m)")[2] == 0


def test_numbers():
    """A quarter is dropped (4 standard errors of 40,000 draws), the rest grows by 4/3."""
    g, roles, _ = counted("y, m = Dropout (x, ratio, on)")
    x = np.full((10_000, 4), 3, np.float32)
    functions = [FUNCTIONS["RandomUniform"]]
    first = run(g, {"x": x, "random_state": np.int64(7)}, functions=functions)
    y, state = first["y"], first["random_state.new"]
    assert set(np.unique(y)) == {0, np.float32(3) * (np.float32(1) / np.float32(0.75))}
    assert abs((y == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / y.size)
    assert state == 8
    assert roles.quantizer_state["random_state"] in first
    again = run(g, {"x": x, "random_state": np.int64(7)}, functions=functions)["y"]
    other = run(g, {"x": x, "random_state": state}, functions=functions)["y"]
    np.testing.assert_array_equal(again, y)
    assert 0.3 < ((other == 0) != (y == 0)).mean() < 0.45  # 2 * 1/4 * 3/4 of independent masks


def test_two_dropouts_draw_different_numbers():
    g, _, _ = counted("[a] d, m = Dropout (x, half, on) [b] e, n = Dropout (x, half, on) y = Sub (d, e)")
    got = run(
        g,
        {"x": np.ones((1000, 4), np.float32), "random_state": np.int64(0)},
        functions=[FUNCTIONS["RandomUniform"]],
    )
    assert 0.4 < (got["y"] != 0).mean() < 0.6
