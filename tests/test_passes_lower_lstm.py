"""An LSTM written out is ONNX Runtime's LSTM; its products are sites that share clip and quantiser."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import model
from graphs import run as run_graph
from training_graph import batch_of, calibrated, compiled, run, step

from fourbit_onnx.errors import GraphError
from fourbit_onnx.passes.lower_lstm import lower_lstm
from fourbit_onnx.passes.pipeline import Options, prepare
from fourbit_onnx.passes.recurrent_form import recurrent_inputs, recurrent_obstacle
from fourbit_onnx.passes.roles import Roles
from fourbit_onnx.passes.survey import survey
from fourbit_onnx.recipes import table

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
        "head": rng.standard_normal((sides * H, CLASSES)),
    }
    values = {
        name: array.astype(np.float32)
        for name, array in values.items()
        if name in [*inputs.split(", "), "head"]
    }
    body = f"""[l] {outputs} = LSTM <hidden_size = {H}, direction = "{direction}" {attributes}> ({inputs})
        t = Transpose <perm = [0, 2, 1, 3]> (y)
        side = Constant <value_ints = [0, 0, {sides * H}]> ()
        f = Reshape (t, side)
        [head] z = MatMul (f, head)
        axes = Constant <value_ints = [0]> ()
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
    assert operators.count("QuantizePactSigned") == T - 1  # the weight gradient joins their codes
    assert operators.count("GradientScale") == T - 1 + 1  # but has a scale of its own


def test_a_pattern_names_all_steps():
    for pattern in ("l.recurrent.*", "l.recurrent"):
        plan = compiled(lstm(), "ibm2020", keep=[pattern]).plan
        assert {site.reason for site in plan.sites if site.group} == {f"kept by pattern {pattern!r}"}


def test_the_clip_is_calibrated_on_all_steps():
    """On what the products read: h of all steps but the last; the largest of 4 * 3 * 6 magnitudes."""
    proto = lstm()
    graph = compiled(proto, "ibm2020")
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, None))
    y = ort.InferenceSession(proto.SerializeToString()).run(["y"], {"x": data()})[0]
    clip = calibrated(graph, batch_of(graph, data(), LABELS))["l.recurrent.clip"]
    assert clip == pytest.approx(np.abs(y[:-1]).max(), abs=5e-6)  # as above
    assert np.abs(y[:-1]).max() > np.abs(y[0]).max()


def test_products_are_counted_for_all_steps():
    sites = {site.name: site for site in compiled(lstm("bidirectional"), "ibm2020").plan.sites}
    assert sites["l.forward.input"].macs == sites["l.reverse.input"].macs == T * 4 * H * F
    assert sites["l.forward.recurrent.1"].macs == 4 * H * H
    assert sites["head"].macs == T * 2 * H * CLASSES


def test_two_directions_are_one_place():
    plan = compiled(lstm("bidirectional"), "ibm2020").plan
    reasons = {site.name: site.reason for site in plan.sites if site.reason}
    assert reasons == {
        "l.forward.input": "first site",
        "l.reverse.input": "first site",
        "head": "last site",
    }


def test_a_zero_state_needs_no_first_product():
    """As exporters write zeros out."""
    zeros = np.zeros((1, B, H), np.float32)
    plan = compiled(lstm(inputs="x, w, r, b, , zero_h, zero_c", zero_h=zeros, zero_c=zeros)).plan
    assert [site.name for site in plan.sites if site.group] == [f"l.recurrent.{t}" for t in range(1, T)]
    plan = compiled(lstm(inputs="x, w, r, b, , h, c")).plan
    assert [site.name for site in plan.sites if site.group] == [f"l.recurrent.{t}" for t in range(T)]


def test_full_lengths_are_no_lengths():
    lengths = np.full(B, T, np.int32)
    assert len(compiled(lstm(inputs="x, w, r, b, lengths", lengths=lengths)).plan.sites) == T + 1


def test_one_step():
    proto = lstm(length=1)
    graph = compiled(proto, "ibm2020")
    assert [site.name for site in graph.plan.sites] == ["l.input", "head"]
    expected = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": data()[:1]})[0]
    found = run(compiled(proto).evaluation, {**graph.state, **batch_of(graph, data()[:1], LABELS)})["logits"]
    np.testing.assert_allclose(found, expected, atol=3e-5, rtol=0)


def test_last_states_are_those_of_onnxruntime():
    names = ["y", "y_h", "y_c"]
    proto = lstm("bidirectional", outputs="y, y_h, y_c")
    shapes = {"y": [T, 2, "N", H], "y_h": [2, "N", H], "y_c": [2, "N", H]}
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, shapes[name]) for name in names)
    graph, roles = prepare(proto)
    expected = ort.InferenceSession(proto.SerializeToString()).run(names, {"x": data()})
    found = run_graph(graph, {**roles.values, "x": data()}, names)
    for name, numbers in zip(names, expected, strict=True):
        np.testing.assert_allclose(found[name], numbers, atol=5e-6, rtol=0)


LEFT_ALONE = {
    "unknown length": ({"length": "T"}, "the length of its sequence is not known"),
    "clip": ({"attributes": ", clip = 1.0"}, "clip or coupled gates"),
    "lengths": (
        {"inputs": "x, w, r, b, lengths", "lengths": np.array([5, 4, 5], np.int32)},
        "differ in length",
    ),
    "peepholes": ({"inputs": "x, w, r, b, , , , p", "p": np.ones((1, 3 * H), np.float32)}, "peepholes"),
    "a projection that the exporter lost": (
        {"inputs": "x, w, r, b, , , c", "c": np.zeros((1, 3, H + 1), np.float32)},
        "its states have not hidden_size numbers",
    ),
    "a projection, by its weights": (
        {"r": np.zeros((1, 4 * H, H + 1), np.float32)},
        "its states have not hidden_size numbers",
    ),
    "a projection, by the first h": (
        {"inputs": "x, w, r, b, , h", "h": np.zeros((1, 3, H + 1), np.float32)},
        "its states have not hidden_size numbers",
    ),
    "coupled gates": ({"attributes": ", input_forget = 1"}, "clip or coupled gates"),
    "layout": ({"attributes": ", layout = 1", "outputs": "y"}, "layout 1"),
    "activations": ({"attributes": ', activations = ["Tanh", "Tanh", "Tanh"]'}, "other activations"),
}


@pytest.mark.parametrize(("options", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(options, reason):
    graph, _ = prepare(lstm(**options))
    node = next(node for node in graph.nodes if node.op == "LSTM")
    assert reason in recurrent_obstacle(node)
    assert list(recurrent_inputs(node))[:4] == ["X", "W", "R", "B"]
    assert lower_lstm(graph, Roles([], [])) == 0


def test_an_lstm_that_is_left_alone_is_in_the_plan():
    inputs = "x, w, r, b, , h, c"
    plan = compiled(lstm(inputs=inputs, outputs="y, y_h, y_c", length="T"), "ibm2020", keep=["l"]).plan
    site = plan.sites[-1]
    assert (site.name, site.op, site.precision) == ("l", "LSTM", "fp32")
    assert site.reason == "the length of its sequence is not known: export the model with a fixed length"
    assert site.macs == 4 * H * (F + H)


def test_an_lstm_without_a_gradient_is_refused():
    """ONNX Runtime knows it only with all inputs and outputs."""
    message = (
        r"^LSTM 'l' cannot be trained: its steps cannot be written out, because the length of its sequence"
    )
    with pytest.raises(GraphError, match=message):
        compiled(lstm(length="T"))


WITHOUT_KERNEL = {
    "reverse": {"direction": "reverse"},
    "bidirectional": {"direction": "bidirectional"},
    "clip": {"attributes": ", clip = 1.0"},
    "coupled gates": {"attributes": ", input_forget = 1"},
    "layout": {"attributes": ", layout = 1"},
    "no first states": {"inputs": "x, w, r, b"},
    "one output": {"outputs": "y"},
    "activations": {"attributes": ', activations = ["Sigmoid", "Tanh", "Tanh"]'},
    "lengths": {"inputs": "x, w, r, b, lengths, h, c", "lengths": np.full(B, T, np.int32)},
    "peepholes": {"inputs": "x, w, r, b, , h, c, p", "p": np.ones((1, 3 * H), np.float32)},
}


@pytest.mark.parametrize("form", WITHOUT_KERNEL.values(), ids=WITHOUT_KERNEL)
def test_an_lstm_that_has_no_kernel_is_refused(form):
    """ONNX Runtime's builder differentiates it; its kernel refuses, or is wrong about peepholes."""
    proto = lstm(**{"inputs": "x, w, r, b, , h, c", "outputs": "y, y_h, y_c", "length": "T", **form})
    [found] = survey(proto, Options(recipe=table.find("fp32"))).untrainable
    assert (found.op, found.nodes) == ("LSTM", ["l"])
    obstacle = "the length of its sequence is not known: export the model with a fixed length"
    assert found.remedy == obstacle
    with pytest.raises(GraphError) as refusal:
        compiled(proto)
    assert (
        str(refusal.value)
        == f"LSTM 'l' cannot be trained: its steps cannot be written out, because {obstacle}"
    )


def test_a_forward_lstm_that_is_left_alone_trains():
    graph = compiled(lstm("forward", "x, w, r, b, , h, c", "y, y_h, y_c", length="T"))
    assert any(node.op_type == "LSTMTraining" for node in graph.training.graph.node)
    outputs = step(graph, graph.state, batch_of(graph, data(), LABELS))
    assert np.abs(outputs[graph.manifest.gradients["r"]]).max() > 0
