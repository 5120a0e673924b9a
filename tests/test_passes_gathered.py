"""Pads of the tensor's own elements, and slices backwards, become Gather: same numbers, and a gradient."""

import numpy as np
import pytest
from graphs import check, exact, graph, model, run
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.gathered import LARGEST, gathered
from fourbit_onnx.passes.gathered_flips import gathered_flips
from fourbit_onnx.passes.gathered_pads import gathered_pads
from fourbit_onnx.passes.pipeline import inferred

SIGNATURE = "(float[2,4,5] x) => (float[A,B,C] y)"
X = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
VALUES = {
    "pads": np.array([0, 1, 2, 0, 3, 1]),
    "last_pads": np.array([2, 1]),
    "last": np.array([-1]),
    "crop": np.array([0, -1, 0, 0, 0, 0]),
    "wide_pads": np.array([0, 0, 0, 0, 0, 2**40]),
    "no_pads": np.array([0, 0, 0, 0, 0, 0]),
    "starts": np.array([-1, 4]),
    "ends": np.array([-(2**63), 0]),
    "axes": np.array([1, -1]),
    "steps": np.array([-1, -2]),
    "mixed": np.array([-1, 1]),
    "forward": np.array([1, 2]),
    "begins": np.array([3, 1]),
    "stops": np.array([0, 4]),
}
# body, axes that are gathered
PADS = {
    "reflect": ("y = Pad <mode = 'reflect'> (x, pads)", 2),
    "edge": ("y = Pad <mode = 'edge'> (x, pads)", 2),
    "wrap": ("y = Pad <mode = 'wrap'> (x, pads)", 2),
    "of all axes": ('y = Pad <mode = \'edge\'> (x, pads, "", "")', 2),
    "no pads": ("y = Pad <mode = 'edge'> (x, no_pads)", 0),
    "of axes": ("y = Pad <mode = 'reflect'> (x, last_pads, \"\", last)", 1),
}
FLIPS = {
    "two axes": ("y = Slice (x, starts, ends, axes, steps)", 2),
    "back and forth": ("y = Slice (x, begins, stops, axes, mixed)", 2),
}
CASES = {name: (gathered_pads, *case) for name, case in PADS.items()} | {
    name: (gathered_flips, *case) for name, case in FLIPS.items()
}


def made(body, signature=SIGNATURE):
    return graph(signature, body.replace("'", '"'), VALUES, infer=True)


@pytest.mark.parametrize(("rewrite", "body", "axes"), CASES.values(), ids=CASES)
def test_the_same_numbers(rewrite, body, axes):
    g = made(body)
    expected = run(made(body), {"x": X})["y"]
    assert rewrite(g) == 1
    assert [node.op for node in g.nodes] == (["Gather"] * axes or ["Identity"])
    g = inferred(g)
    check(g)
    np.testing.assert_array_equal(run(g, {"x": X})["y"], expected)
    assert rewrite(g) == 0


LEFT_ALONE = {
    "a constant": (gathered_pads, "y = Pad (x, pads)"),
    "cropped": (gathered_pads, "y = Pad <mode = 'edge'> (x, crop)"),
    "padded without bounds": (gathered_pads, "y = Pad <mode = 'edge'> (x, wide_pads)"),
    "computed pads": (gathered_pads, "p = Neg (no_pads) y = Pad <mode = 'edge'> (x, p)"),
    "computed axes": (gathered_pads, "a = Neg (last) y = Pad <mode = 'edge'> (x, last_pads, \"\", a)"),
    "another Pad": (gathered_pads, "y = other.Pad <mode = 'edge'> (x, pads)"),
    "forward": (gathered_flips, "y = Slice (x, begins, stops, axes, forward)"),
    "no steps": (gathered_flips, "y = Slice (x, begins, stops, axes)"),
    "computed steps": (gathered_flips, "s = Neg (forward) y = Slice (x, starts, ends, axes, s)"),
    "another Slice": (gathered_flips, "y = other.Slice (x, starts, ends, axes, steps)"),
}


@pytest.mark.parametrize(("rewrite", "body"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(rewrite, body):
    g = made(body)
    before = exact(g)
    assert rewrite(g) == 0
    assert exact(g) == before


def test_an_axis_of_a_huge_length_is_left_alone():
    """Its indices would take gigabytes; so many pixels no tensor of a real model has on one axis."""
    for rewrite, body in ((gathered_flips, FLIPS["two axes"][0]), (gathered_pads, PADS["of axes"][0])):
        g = made(body, f"(float[2,4,{LARGEST + 1}] x) => (float[A,B,C] y)")
        assert rewrite(g) == 0


def test_an_empty_axis_has_nothing_to_mirror():
    g = made(PADS["edge"][0], "(float[2,4,0] x) => (y)")
    assert gathered_pads(g) == 0


def test_a_mirror_behind_a_resize():
    """ONNX does not know the size that joined scales give; it is known when the Resize is written out."""
    body = """
        h = Mul (x, w) o = Constant <value_floats = [1.0, 1.0]> () s = Constant <value_floats = [2.0]> ()
        scales = Concat <axis = 0> (o, s) r = Resize (h, "", scales) y = Pad <mode = "reflect"> (r, pads)
    """
    proto = model("(float[N,4,5] x) => (float[N,A,B] y)", body, VALUES | {"w": X[:1]})
    found = compiled(proto, loss="mse")
    assert {"Resize", "Pad"}.isdisjoint(node.op_type for node in found.evaluation.graph.node)


def test_axes_one_after_the_other():
    g = made("y = other.Turn (x)")
    assert gathered(g, g.nodes[0], {2: [4, 0], 0: [1]})
    assert [node.attrs["axis"] for node in g.nodes if node.op == "Gather"] == [2, 0]
    np.testing.assert_array_equal(run(g, {"x": X})["y"], X[1:, :, [4, 0]])


@pytest.mark.parametrize("body", [body for _, body, _ in CASES.values()], ids=CASES)
def test_the_gradient(body):
    """Of the sum of w x, squared and rearranged: 2 w for every place where an element went; integers."""
    weights = np.rint(8 * X[0])
    signature = "(float[N,4,5] x) => (float loss)"
    rows = "h = Mul (x, w) " + body.replace("'", '"').replace("(x,", "(h,")
    proto = model(signature, rows + " q = Mul (y, y) loss = ReduceSum <keepdims = 0> (q)",
                  VALUES | {"w": weights})  # fmt: skip
    found = compiled(proto, loss="output")
    outputs = step(found, found.state, batch_of(found, np.ones((2, 4, 5), np.float32)))
    numbers = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    went = np.bincount(run(made(body), {"x": numbers})["y"].astype(int).ravel(), minlength=40)
    np.testing.assert_array_equal(gradients(found, outputs)["w"], 2 * weights * went.reshape(2, 4, 5).sum(0))


@pytest.mark.parametrize(
    ("op", "body"),
    [("Pad", PADS["reflect"][0]), ("Slice", FLIPS["two axes"][0]), ("Slice", FLIPS["back and forth"][0])],
    ids=["Pad", "Slice", "Slice of which one axis is turned"],
)
def test_an_axis_of_unknown_length_is_refused(op, body):
    rows = "h = Mul (x, w) " + body.replace("'", '"').replace("(x,", "(h,")
    proto = model("(float[N,K,L] x) => (float[N,A,B] y)", rows, VALUES | {"w": X[:, :1, :1]})
    with pytest.raises(GraphError, match=rf"^{op} cannot be trained on the CPU"):
        compiled(proto, loss="mse")
