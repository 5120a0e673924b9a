"""A GRU or RNN written out is ONNX Runtime's; its products are sites that share clip and quantiser."""

import re

import numpy as np
import onnxruntime as ort
import pytest
from graphs import exact, graph, model
from training_graph import batch_of, calibrated, compiled, run, step

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.lower_gru import lower_gru
from fourbit_onnx.passes.pipeline import Options
from fourbit_onnx.passes.recurrent_form import recurrent_obstacle
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.survey import survey
from fourbit_onnx.passes.written_steps import is_zero
from fourbit_onnx.recipes import table

T, B, F, H, CLASSES = 5, 3, 4, 6, 7
GATES = {"GRU": 3, "RNN": 1}
RESET = {"GRU": "linear_before_reset = 1", "RNN": 'activations = ["Tanh"]'}


def recurrent(op, direction="forward", inputs="x, w, r, b", attributes=None, length=T):
    """``x`` (T, B, F) through a GRU or RNN, all h averaged to ``logits`` (B, CLASSES)."""
    sides, gates = 2 if direction == "bidirectional" else 1, GATES[op]
    rng = np.random.default_rng(7)
    values = {
        "w": rng.standard_normal((sides, gates * H, F)),
        "r": rng.standard_normal((sides, gates * H, H)) / 2,
        "b": rng.standard_normal((sides, 2 * gates * H)) / 4,
        "h": rng.standard_normal((sides, B, H)) / 2,
        "head": rng.standard_normal((sides * H, CLASSES)),
    }
    given = inputs.split(", ")
    values = {name: array.astype(np.float32) for name, array in values.items() if name in [*given, "head"]}
    lengths = {"all": np.full(B, T, np.int32), "some": np.array([5, 4, 5], np.int32)}
    attributes = RESET[op] if attributes is None else attributes
    if op == "RNN" and sides == 2:
        attributes = attributes.replace("]", ', "Tanh"]')
    body = f"""[l] y, last = {op} <hidden_size = {H}, direction = "{direction}", {attributes}> ({inputs})
        t = Transpose <perm = [0, 2, 1, 3]> (y)
        side = Constant <value_ints = [0, 0, {sides * H}]> ()
        f = Reshape (t, side)
        [head] z = MatMul (f, head)
        axes = Constant <value_ints = [0]> ()
        logits = ReduceMean <keepdims = 0> (z, axes)"""
    return model(
        f"(float[{length},N,{F}] x) => (float[N,{CLASSES}] logits, float[{sides},N,{H}] last)",
        body,
        values | {name: array for name, array in lengths.items() if name in given},
    )


def data(seed=1):
    return np.random.default_rng(seed).standard_normal((T, B, F)).astype(np.float32)


LABELS = np.array([0, 3, 6])
FORMS = {
    f"{op}, {direction}, {inputs}": (op, direction, inputs)
    for op in GATES
    for direction in ("forward", "reverse", "bidirectional")
    for inputs in ("x, w, r", "x, w, r, b", "x, w, r, b, , h", "x, w, r, , all")
}


@pytest.mark.parametrize(("op", "direction", "inputs"), FORMS.values(), ids=FORMS)
def test_it_is_that_of_onnxruntime(op, direction, inputs):
    proto = recurrent(op, direction, inputs)
    found = compiled(proto)
    assert op not in {node.op_type for node in found.evaluation.graph.node}
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": data()})
    outputs = run(found.evaluation, {**found.state, **batch_of(found, data(), LABELS)})
    # As for an LSTM: sums of at most 10 products of size 1, sigmoid and tanh right to 3e-7, h below 1, and a
    # step passes less than its own error on, so 5 steps stay below 5e-6; then, of their mean, 12 products of
    # size 1 and either sign: sqrt(12), and sqrt(3) for what is larger than the typical.
    np.testing.assert_allclose(outputs["logits"], expected[0], atol=3e-5, rtol=0)
    np.testing.assert_allclose(outputs["last"], expected[1], atol=5e-6, rtol=0)


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "ibm2020", "minmax"])
@pytest.mark.parametrize(("op", "direction", "inputs"), FORMS.values(), ids=FORMS)
def test_it_trains(op, direction, inputs, recipe):
    found = compiled(recurrent(op, direction, inputs), recipe)
    batch = batch_of(found, data(), LABELS)
    outputs = step(found, calibrated(found, batch), batch)
    assert np.isfinite(outputs["loss"])
    weights = {"w", "r", "head"} | ({"b", "h"} & set(inputs.split(", ")))
    assert weights <= set(found.manifest.parameters)
    for name in weights:
        assert np.abs(outputs[found.manifest.gradients[name]]).max() > 0, name


@pytest.mark.parametrize("op", GATES)
def test_recurrent_products_share_clip_and_quantiser(op):
    found = compiled(recurrent(op), "ibm2020")
    names = [f"l.recurrent.{t}" for t in range(1, T)]
    sites = {site.name: site for site in found.plan.sites}
    assert list(sites) == ["l.input", *names, "head"]
    assert [(sites[name].precision, sites[name].group) for name in names] == [("4-bit", "l.recurrent")] * 4
    assert list(found.manifest.clips) == ["l.recurrent.clip"]
    operators = [node.op_type for node in found.training.graph.node]
    assert operators.count("SawbScale") == operators.count("QuantizeInt4") == 1


def test_activations_that_are_written_out():
    """Those of each direction, as ONNX has them by default."""
    names = ", ".join(['"Sigmoid"', '"Tanh"'] * 2)
    proto = recurrent("GRU", "bidirectional", attributes=f"linear_before_reset = 1, activations = [{names}]")
    assert "GRU" not in {node.op_type for node in compiled(proto).evaluation.graph.node}


def test_steps_are_numbered_in_their_order():
    """Also of a node whose second output alone is wanted."""
    values = {"w": np.ones((1, 1, 2), np.float32), "r": np.ones((1, 1, 1), np.float32)}
    g = graph("(float[11,1,2] x) => (y)", '[l] "", y = RNN <hidden_size = 1> (x, w, r)', values)
    assert lower_gru(g, Roles(["x"], ["y"])) == 1
    assert [tensor.name for tensor in g.outputs] == ["y"]
    products = [node.name for node in g.nodes if node.op == "Gemm"]
    assert products == ["l.input", *(f"l.recurrent.{t:02}" for t in range(1, 11))]


def test_one_step():
    proto = recurrent("GRU", length=1)
    found = compiled(proto)
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": data()[:1]})
    outputs = run(found.evaluation, {**found.state, **batch_of(found, data()[:1], LABELS)})
    np.testing.assert_allclose(outputs["last"], expected[1], atol=5e-6, rtol=0)


LEFT_ALONE = {
    "a reset before the product": ("GRU", {"attributes": "linear_before_reset = 0"}, "it resets before"),
    "the default of it": ("GRU", {"attributes": "layout = 0"}, "it resets before the product: export"),
    "a clip": ("GRU", {"attributes": "linear_before_reset = 1, clip = 3.0"}, "it has a clip"),
    "other activations": ("RNN", {"attributes": 'activations = ["Relu"]'}, "other activations than Tanh: "),
    "of a GRU": (
        "GRU",
        {"attributes": 'linear_before_reset = 1, activations = ["Tanh", "Tanh"]'},
        "other activations than Sigmoid, Tanh: ",
    ),
    "lengths": ("GRU", {"inputs": "x, w, r, , some"}, "its sequences differ in length: pad them"),
    "an unknown length": ("RNN", {"length": "L"}, "export the model with a fixed length"),
}


@pytest.mark.parametrize(("op", "form", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone_and_refused(op, form, reason):
    """As an LSTM is, with what is in the way of this one."""
    [found] = survey(recurrent(op, **form), Options(recipe=table.find("fp32"))).untrainable
    assert reason in found.remedy
    beginning = rf"^{op} 'l' cannot be trained: its steps cannot be written out, because .*"
    with pytest.raises(GraphError, match=beginning + re.escape(reason)):
        compiled(recurrent(op, **form))


FITS = "y = GRU <hidden_size = 1, linear_before_reset = 1> (x, w, r)"
UNFIT = {
    "another domain": "y = other.GRU (x, w, r)",
    "no hidden size": FITS.replace("hidden_size = 1, ", ""),
    "features that are not known": f"v = other.Op (w) {FITS.replace('w', 'v')}",
    "batches first": FITS.replace("linear", "layout = 1, linear"),
    "computed lengths": f"n = Abs (some) {FITS.replace('r)', 'r, , n)')}",
    "an RNN of a hidden size that is not said": "y = RNN (x, w, r)",
}


@pytest.mark.parametrize("body", UNFIT.values(), ids=UNFIT)
def test_left_alone(body):
    values = {"w": np.ones((1, 3, 2), np.float32), "r": np.ones((1, 3, 1), np.float32)}
    values["some"] = np.full(4, 5, np.int32)
    g = graph("(float[5,4,K] x) => (y)", body, values)
    before = exact(g)
    assert lower_gru(g, Roles(["x"], ["y"])) == 0
    assert exact(g) == before
    assert lower_gru(graph("(float[5,4,K] x) => (y)", FITS, values), Roles(["x"], ["y"])) == 1


ZEROS = {
    "zeros": ("y = ConstantOfShape (s)", True),
    "twos": ("y = ConstantOfShape <value = float[1] {2}> (s)", False),
    "expanded": ("z = ConstantOfShape (s) y = Expand (z, s)", True),
    "joined": ("z = ConstantOfShape (s) y = Concat <axis = 0> (z, z)", True),
    "joined with data": ("z = ConstantOfShape (s) y = Concat <axis = 0> (z, x)", False),
    "constants": ("y = Identity (nothing)", True),
    "other constants": ("y = Identity (s)", False),
    "data": ("y = Relu (x)", False),
}


@pytest.mark.parametrize(("body", "zero"), ZEROS.values(), ids=ZEROS)
def test_states_that_are_certainly_zero(body, zero):
    g = graph("(float[2] x) => (y)", body, {"s": np.array([2]), "nothing": np.zeros(2)})
    assert is_zero(g.outputs[0]) == zero
    assert is_zero(None)
    assert not is_zero(g.inputs[0])


@pytest.mark.parametrize("first", ["float[1,4,H] h", "float[A,B,C] h", "float h"])
def test_a_first_state_of_unknown_size_is_no_obstacle(first):
    """It is hidden_size, whatever is said of it."""
    values = {"w": np.ones((1, 3, 2), np.float32), "r": np.ones((1, 3, 1), np.float32)}
    g = graph(f"(float[5,4,2] x, {first}) => (y)", FITS.replace("r)", 'r, "", "", h)'), values)
    for tensor in g.inputs:
        tensor.shape = tensor.shape or None
    assert recurrent_obstacle(g.nodes[0]) == ""
