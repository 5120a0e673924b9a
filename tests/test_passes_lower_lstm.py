"""An LSTM written out is ONNX Runtime's LSTM; its products are sites that share clip and quantiser."""

import numpy as np
import onnxruntime as ort
import pytest
from graphs import model
from training_graph import batch_of, calibrated, compiled, run, step

from fourbit_onnx.passes.lower_lstm import lower_lstm
from fourbit_onnx.passes.lstm_form import lstm_inputs, lstm_obstacle
from fourbit_onnx.passes.pipeline import prepare
from fourbit_onnx.passes.roles import Roles

T, B, F, H, CLASSES = 5, 3, 4, 6, 7


def lstm(direction="forward", inputs="x, w, r, b", outputs="y", *, length=T, attributes="", **more):
    """``x`` (T, B, F) through an LSTM, all outputs averaged to ``logits`` (B, CLASSES)."""
    sides = 2 if direction == "bidirectional" else 1
    rng = np.random.default_rng(7)
    values = {
        "w": rng.standard_normal((sides, 4 * H, F)),
        "r": rng.standard_normal((sides, 4 * H, H)) / 2,
        "b": rng.standard_normal((sides, 8 * H)) / 4,
        "h": rng.standard_normal((sides, B, H)) / 2,
        "c": rng.standard_normal((sides, B, H)) / 2,
        "head": rng.standard_normal((H, CLASSES)),
    }
    values = {name: array.astype(np.float32) for name, array in values.items() if name in inputs + " head"}
    body = f"""[l] {outputs} = LSTM <hidden_size = {H}, direction = "{direction}" {attributes}> ({inputs})
        [head] z = MatMul (y, head)
        axes = Constant <value_ints = [0, 1]> ()
        logits = ReduceMean <keepdims = 0> (z, axes)"""
    return model(f"(float[{length},N,{F}] x) => (float[N,{CLASSES}] logits)", body, {**values, **more})


def data(seed=1):
    return np.random.default_rng(seed).standard_normal((T, B, F)).astype(np.float32)


LABELS = np.array([0, 3, 6])

FORMS = {
    f"{direction}, {inputs}": (direction, inputs)
    for direction in ("forward", "reverse", "bidirectional")
    for inputs in ("x, w, r", "x, w, r, b", "x, w, r, b, , h, c")
}


@pytest.mark.parametrize(("direction", "inputs"), FORMS.values(), ids=FORMS)
def test_it_is_the_lstm_of_onnxruntime(direction, inputs):
    proto = lstm(direction, inputs)
    graph = compiled(proto)
    assert not {"LSTM", "LSTMTraining"} & {node.op_type for node in graph.evaluation.graph.node}
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": data()})[0]
    found = run(graph.evaluation, {**graph.state, **batch_of(graph, data(), LABELS)})["logits"]
    # Sums of at most 6 + 4 products of size 1 and ONNX Runtime's own sigmoid and tanh, right to 3e-7; h is
    # below 1 and a step passes less than its own error on, so 5 steps stay below 5e-6; then 6 products.
    np.testing.assert_allclose(found, expected, atol=3e-5, rtol=0)


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "ibm2020", "minmax"])
@pytest.mark.parametrize(("direction", "inputs"), FORMS.values(), ids=FORMS)
def test_it_trains(direction, inputs, recipe):
    graph = compiled(lstm(direction, inputs), recipe)
    batch = batch_of(graph, data(), LABELS)
    outputs = step(graph, calibrated(graph, batch), batch)
    assert np.isfinite(outputs["loss"])
    weights = {"w", "r", "head", *({"b"} if "b" in inputs else ()), *({"h", "c"} if "h" in inputs else ())}
    assert weights <= set(graph.manifest.parameters)
    for name in weights:
        assert np.abs(outputs[graph.manifest.gradients[name]]).max() > 0, name


def test_recurrent_products_share_clip_and_quantiser():
    graph = compiled(lstm(), "ibm2020")
    names = [f"l.recurrent.{t}" for t in range(1, T)]
    sites = {site.name: site for site in graph.plan.sites}
    assert list(sites) == ["l.input", *names, "head"]
    assert [(sites[name].precision, sites[name].group) for name in names] == [("4-bit", "l.recurrent")] * (
        T - 1
    )
    assert (sites["l.input"].reason, sites["head"].reason) == ("first site", "last site")
    assert list(graph.manifest.clips) == ["l.recurrent.clip"]
    operators = [node.op_type for node in graph.training.graph.node]
    assert operators.count("SawbScale") == operators.count("QuantizeInt4") == 1
    assert operators.count("QuantizePactSigned") == operators.count("GradientScale") == T - 1


def test_a_pattern_names_all_steps():
    for pattern in ("l.recurrent.*", "l.recurrent"):
        plan = compiled(lstm(), "ibm2020", keep=[pattern]).plan
        assert {site.reason for site in plan.sites if site.group} == {f"kept by pattern {pattern!r}"}


LEFT_ALONE = {
    "unknown length": ({"length": "T"}, "the length of its sequence is not known"),
    "clip": ({"attributes": ", clip = 1.0"}, "clip or coupled gates"),
    "activations": ({"attributes": ', activations = ["Tanh", "Tanh", "Tanh"]'}, "other activations"),
}


@pytest.mark.parametrize(("options", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(options, reason):
    graph, _ = prepare(lstm(**options))
    node = next(node for node in graph.nodes if node.op == "LSTM")
    assert reason in lstm_obstacle(node)
    assert list(lstm_inputs(node)) == ["X", "W", "R", "B"]
    assert lower_lstm(graph, Roles([], [])) == 0
