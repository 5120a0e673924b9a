"""The gradient of an operand of Where is as large as the operand."""

import numpy as np
import pytest
from graphs import graph, model, run, text
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.passes.expanded_where import expanded_where
from fourbit_onnx.passes.pipeline import inferred

Y = "=> (float[N,2,3] y)"
TOKEN = "c = Greater (x, x) y = Where (c, t, x)"


def test_an_operand_that_is_repeated_is_expanded():
    signature = f"(float[N,2,3] x, float[1,1,3] t) {Y}"
    g = graph(signature, TOKEN, infer=True)
    assert expanded_where(g) == 1
    after = "c = Greater (x, x) s = Shape (c) e = Expand (t, s) y = Where (c, e, x)"
    assert text(g) == text(graph(signature, after))
    assert expanded_where(g) == 0


def test_sizes_that_no_operand_has_are_put_together():
    signature = f"(bool[N,1,1] c, float[2,1] t, float[3] u) {Y}"
    g = graph(signature, "y = Where (c, t, u)", infer=True)
    assert expanded_where(g) == 1
    sizes = "i = Shape (t) d = Expand (c, i) j = Shape (u) w = Expand (d, j) s = Shape (w)"
    after = f"{sizes} e = Expand (t, s) f = Expand (u, s) y = Where (c, e, f)"
    assert text(g) == text(graph(signature, after))
    assert expanded_where(g) == 0


def test_sizes_without_a_name_may_be_1():
    g = graph("(bool[?] c, float[?] t, float[?] u) => (float[?] y)", "y = Where (c, t, u)", infer=True)
    assert expanded_where(g) == 1
    where = next(node for node in g.nodes if node.op == "Where")
    assert [tensor.inputs[0].op for tensor in where.inputs[1:]] == ["Expand"] * 2


def test_an_unknown_number_of_axes_is_no_endless_loop():
    """All operands are expanded, so that it can be seen that this was done."""
    signature = "(bool[N,1] c, float[1,3] t, float[M,3] x, int64[K] k) => (float y)"
    g = graph(signature, "h = Reshape (x, k) n = Abs (h) z = Where (c, t, n) y = Neg (z)", infer=True)
    assert expanded_where(g) == 1
    g = inferred(g)
    assert expanded_where(g) == 0
    where = next(node for node in g.nodes if node.op == "Where")
    assert [tensor.inputs[0].op for tensor in where.inputs] == ["Expand"] * 3
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    feeds = {"c": np.array([[True], [False]]), "t": -x[:1] - 1, "x": x, "k": np.array([1, 2, 3])}
    np.testing.assert_array_equal(run(g, feeds)["y"], [[1 + x[0], -x[1]]])


EXPANDED = {
    "to the same sizes": ("d = Expand (c, i) e = Expand (t, i) f = Expand (u, i)", 0),
    "to sizes of their own": ("d = Expand (c, i) e = Expand (t, j) f = Expand (u, k)", 1),
    "but for the condition": ("d = Reshape (c, i) e = Expand (t, i) f = Expand (u, i)", 1),
    "none": ("d = Reshape (c, i) e = Reshape (t, i) f = Reshape (u, i)", 1),
}


@pytest.mark.parametrize(("body", "count"), EXPANDED.values(), ids=EXPANDED)
def test_operands_that_are_expanded_already(body, count):
    signature = "(bool[1] c, float[1] t, float[1] u, int64[K] i, int64[L] j, int64[M] k) => (float y)"
    assert expanded_where(graph(signature, f"{body} y = Where (d, e, f)", infer=True)) == count


LEFT_ALONE = {
    "as large": (f"(bool[N,1,1] c, float[N,2,3] t, float[N,2,3] u) {Y}", {}),
    "a number": (f"(bool[N,1,1] c, float[N,2,3] t) {Y}", {"u": np.float32(-1e9)}),
    "integers": ("(bool[N,1,1] c, int64[2,3] t, int64[3] u) => (int64[N,2,3] y)", {}),
}


@pytest.mark.parametrize(("signature", "values"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(signature, values):
    assert expanded_where(graph(signature, "y = Where (c, t, u)", values, infer=True)) == 0


def test_a_token_in_the_place_of_what_is_masked_is_trained():
    """Its gradient had the size of the batch, and so had the token after a step.

    Whole numbers, and a mean of 32: to the bit.
    """
    token, w = np.float32([[[1, 2, 3, 4]]]), np.eye(4, dtype=np.float32)
    body = "h = MatMul (x, w) c = Greater (x, z) y = Where (c, t, h)"
    values = {"t": token, "w": w, "z": np.float32(0)}
    found = compiled(model("(float[N,2,4] x) => (float[N,2,4] y)", body, values), loss="mse")
    x = np.random.default_rng(0).integers(-3, 4, (4, 2, 4)).astype(np.float32)
    outputs = step(found, found.state, batch_of(found, x, np.zeros((4, 2, 4), np.float32)))
    got = gradients(found, outputs)
    masked = x > 0
    np.testing.assert_array_equal(got["t"], (2 / 32 * token * masked).sum((0, 1), keepdims=True))
    h = np.where(masked, 0, x).reshape(8, 4)
    np.testing.assert_array_equal(got["w"], 2 / 32 * x.reshape(8, 4).T @ h)
