"""A Pad of some axes is one of all, whose gradient ONNX Runtime has."""

import numpy as np
import pytest
from graphs import graph, model, text
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.passes.differentiate import untrainable
from fourbit_onnx.passes.pads_of_all_axes import pads_of_all_axes
from fourbit_onnx.passes.roles import Roles

SIGNATURE = "(float[N,3,4] x) => (float[A,4,5] y)"
AXES = {"p": np.array([1, 2, 0, -1]), "a": np.array([-1, 1])}
ALL = {"p": np.array([0, 2, 1, 0, -1, 0])}


@pytest.mark.parametrize("value", ['""', "v"])
def test_what_it_becomes(value):
    number = {"v": np.float32(7)} if value == "v" else {}
    body = f"y = Pad (x, p, {value}, a)"
    g = graph(SIGNATURE, body, AXES | number, infer=True)
    assert pads_of_all_axes(g) == 1
    assert text(g) == text(graph(SIGNATURE, body.replace(", a)", ")"), ALL | number, infer=True))
    assert pads_of_all_axes(g) == 0


def test_another_mode_stays():
    """Of sizes that are not known; of others a Pad that repeats what is there becomes a Gather."""
    body = 'y = Pad <mode = "reflect"> (x, p, "", a)'
    g = graph(SIGNATURE, body, AXES, infer=True)
    assert pads_of_all_axes(g) == 1
    assert text(g) == text(graph(SIGNATURE, body.replace(", a)", ")"), ALL, infer=True))


def test_an_unknown_number_of_axes_is_left_alone():
    g = graph(SIGNATURE, 'h = other.Op (x) y = Pad (h, p, "", a)', AXES, infer=True)
    assert pads_of_all_axes(g) == 0


@pytest.mark.parametrize("name", ["p", "a"])
def test_computed_numbers_are_left_alone(name):
    computed = {key: value for key, value in AXES.items() if key != name}
    signature = SIGNATURE.replace("x)", f"x, int64[{len(AXES[name])}] {name})")
    g = graph(signature, 'y = Pad (x, p, "", a)', computed, infer=True)
    assert pads_of_all_axes(g) == 0
    assert [node.op for node in untrainable(g, Roles([], ["y"], parameters=["x"], root="y"))] == ["Pad"]


def test_gradient():
    """It failed in the first step. Whole numbers: to the bit."""
    w = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    body = 'h = Mul (x, w) k = Pad (h, p, "", a) q = Mul (k, k) loss = ReduceSum <keepdims = 0> (q)'
    found = compiled(model("(float[1,3,4] x) => (float loss)", body, {"w": w} | AXES), loss="output")
    outputs = step(found, found.state, batch_of(found, np.full((1, 3, 4), 3, np.float32)))
    expected = 18 * w
    expected[:, 2] = 0  # cut off
    np.testing.assert_array_equal(gradients(found, outputs)["w"], expected)
