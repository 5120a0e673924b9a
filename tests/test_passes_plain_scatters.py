"""What is added at places is differentiated as an addition; other reductions are refused."""

import numpy as np
import pytest
from graphs import graph, model, run, text
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.plain_scatters import plain_scatters

SIGNATURE = "(float[4,5] x, int64[2,5] i, float[2,5] u) => (float[4,5] y)"
ROWS = np.array([[0, 0, 1, 3, 2], [0, 2, 1, 0, 1]])
BODIES = {
    "elements": 'y = ScatterElements <reduction = "REDUCTION"> (h, i, u)',
    "slices": 'y = ScatterND <reduction = "REDUCTION"> (h, j, u)',
}


@pytest.mark.parametrize("op", ["ScatterElements <axis = 0, ", "ScatterND <"])
def test_what_it_becomes(op):
    g = graph(SIGNATURE, f'y = {op}reduction = "add"> (x, i, u)', infer=True)
    assert plain_scatters(g) == 1
    zeros = "s = Shape (x) z = ConstantOfShape <value = float[1] {0}> (s)"
    after = graph(SIGNATURE, f'{zeros} v = {op}reduction = "add"> (z, i, u) y = Add (x, v)')
    assert text(g) == text(after)
    assert plain_scatters(g) == 0
    assert plain_scatters(graph(SIGNATURE, f'y = {op}reduction = "mul"> (x, i, u)', infer=True)) == 0
    assert plain_scatters(graph(SIGNATURE, f'y = {op}reduction = "none"> (x, i, u)', infer=True)) == 0


def trained(body, reduction):
    """First values and gradients of the loss sum(y^2), y = 3 p with something done at places."""
    rng = np.random.default_rng(3)
    values = {"p": rng.integers(-4, 5, (4, 5)).astype(np.float32), "i": ROWS, "j": np.array([[1], [1]]),
              "u": rng.integers(-4, 5, (2, 5)).astype(np.float32)}  # fmt: skip
    body = body.replace("REDUCTION", reduction)
    whole = f"h = Mul (x, p) {body} q = Mul (y, y) loss = ReduceSum <keepdims = 0> (q)"
    found = compiled(model("(float[4,5] x) => (float loss)", whole, values), loss="output")
    outputs = step(found, found.state, batch_of(found, np.full((4, 5), 3, np.float32)))
    return values, gradients(found, outputs)


@pytest.mark.parametrize("kind", BODIES)
def test_gradients_of_both(kind):
    """Whole numbers: to the bit."""
    values, got = trained(BODIES[kind], "add")
    y = 3 * values["p"]
    places = (ROWS, np.arange(5)[None]) if kind == "elements" else (np.array([1, 1]),)
    np.add.at(y, places, values["u"])
    np.testing.assert_array_equal(got["p"], 6 * y)
    np.testing.assert_array_equal(got["u"], 2 * y[places])


@pytest.mark.parametrize("reduction", ["mul", "min", "max"])
@pytest.mark.parametrize("kind", BODIES)
def test_other_reductions_are_refused(kind, reduction):
    with pytest.raises(GraphError, match="use it without a reduction, or with addition"):
        trained(BODIES[kind], reduction)


def test_whole_numbers():
    signature = "(int64[4,5] x, int64[2,5] i, int64[2,5] u) => (int64[4,5] y)"
    g = graph(signature, 'y = ScatterElements <reduction = "add"> (x, i, u)', infer=True)
    assert plain_scatters(g) == 1
    feeds = {"x": np.ones((4, 5), np.int64), "i": ROWS, "u": np.full((2, 5), 2)}
    expected = np.ones((4, 5), np.int64)
    np.add.at(expected, (ROWS, np.arange(5)), 2)
    np.testing.assert_array_equal(run(g, feeds)["y"], expected)
