"""A Split of which the loss reads a part becomes slices, and the gradient is whole."""

import numpy as np
import pytest
from graphs import graph, model, text
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.passes.reached import reached
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.sliced_splits import sliced_splits

SIGNATURE = "(float[N,6] x) => (float[N,2] loss, float[N,1] other)"
SPLIT = "sizes = Constant <value_ints = [1, 2, 3]> () [s] a, b, c = Split <axis = 1> (x, sizes)"


def made(body, signature=SIGNATURE):
    return graph(signature, body, infer=True)


def test_slices_for_what_the_loss_reads():
    g = made(f"{SPLIT} loss = Relu (b) other = Relu (a)")
    assert sliced_splits(g, Roles(["x"], ["loss", "other"])) == 1
    nodes = {node.op: node for node in g.nodes}
    assert sorted(node.op for node in g.nodes if node.op != "Constant") == ["Relu", "Relu", "Slice", "Split"]
    start, end, axis = (tensor.values.tolist() for tensor in nodes["Slice"].inputs[1:])
    assert (start, end, axis) == ([1], [3], [1])
    assert nodes["Slice"].inputs[0].name == nodes["Split"].inputs[0].name == "x"
    assert g.outputs[0].inputs[0].inputs[0].inputs[0] is nodes["Slice"]
    assert g.outputs[1].inputs[0].inputs[0].inputs[0] is nodes["Split"]
    assert sliced_splits(g, Roles(["x"], ["loss", "other"])) == 0


@pytest.mark.parametrize(
    "body",
    [
        f"{SPLIT} t = Concat <axis = 1> (c, b, a) q = MatMul (t, t) loss = Relu (b) other = Relu (a)",
        "loss = Relu (x) other = Relu (x)",
    ],
)
def test_left_alone(body):
    """All outputs have a gradient; there is no Split."""
    g = made(body, "(float[6,6] x) => (loss, other)")
    roles = Roles(["x"], ["loss", "other"], root="q" if "q" in body else "loss")
    if "q" in body:
        g.outputs.append(g.tensors()["q"])
    before = text(g)
    assert sliced_splits(g, roles) == 0
    assert text(g) == before


def test_integers_are_not_reached():
    g = made("s = Shape (x) e = Expand (y, s) loss = Relu (e)", "(float[2,2] x, float[1,1] y) => (loss)")
    names = {name for name, tensor in g.tensors().items() if id(tensor) in reached(g, "loss")}
    assert {"y", "e", "loss"} <= names
    assert "x" not in names


@pytest.mark.parametrize("read", ["a", "b", "c"])
def test_the_gradient_has_the_place_of_its_part(read):
    place = {"a": slice(0, 2), "b": slice(2, 4), "c": slice(4, 6)}[read]
    proto = model(
        "(float[N,3] x) => (float[N,2] y)",
        f"h = MatMul (x, w) a, b, c = Split <axis = 1, num_outputs = 3> (h) y = Identity ({read})",
        {"w": np.arange(18, dtype=np.float32).reshape(3, 6) / 9},
    )
    graph = compiled(proto)
    x = np.array([[1, -2, 0.5], [0, 1, 2]], np.float32)
    outputs = step(graph, graph.state, batch_of(graph, x, np.array([0, 1])))
    gradient = gradients(graph, outputs)["w"]
    assert np.abs(gradient[:, place]).min() > 0
    gradient[:, place] = 0
    assert not gradient.any()
