"""Every reference model converts and takes a training step; its products are 4-bit sites."""

import functools

import numpy as np
import pytest
from onnx import TensorProto
from training_graph import batch_of, calibrated, compiled, gradients, step

from fourbit_onnx.models.registry import MODELS, build

SMALL = {
    "mlp": {"hidden": (8,)},
    "resnet8": {"input_shape": (1, 8, 8), "width": 4},
    "resnet14": {"input_shape": (1, 8, 8), "width": 4},
    "resnet20": {"input_shape": (1, 8, 8), "width": 4},
    "resnet18": {"input_shape": (1, 8, 8), "width": 4, "stem": "small"},
    "resnet50": {"input_shape": (1, 8, 8), "width": 4, "stem": "small"},
    "alexnet": {"input_shape": (1, 8, 8), "width": 4, "hidden": 16},
    "vgg": {"input_shape": (1, 8, 8), "width": 4},
    "mobilenetv2": {"input_shape": (1, 8, 8)},
    "vit": {"input_shape": (1, 8, 8), "width": 16, "layers": 1},
    "lstm_lm": {"length": 6, "width": 8, "hidden": 12, "layers": 2},
    "bilstm": {"input_shape": (5, 6), "hidden": 8},
    "transformer": {"length": 6, "layers": 1},
    "transformer_lm": {"length": 6, "width": 16, "layers": 1},
    "transformer_seq2seq": {"source_length": 5, "length": 6, "layers": 1},
}
COUNT = 4
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name == "resnet50" else name for name in SMALL]


def _shape(value):
    return [COUNT, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])]


def _arrays(model):
    """Random inputs, then labels."""
    rng = np.random.default_rng(3)
    for value in model.graph.input:
        whole = value.type.tensor_type.elem_type == TensorProto.INT64
        shape = _shape(value)
        yield rng.integers(0, 64, shape) if whole else rng.standard_normal(shape).astype(np.float32)
    *positions, classes = _shape(model.graph.output[0])
    yield rng.integers(0, classes, positions)


@functools.cache
def stepped(name, recipe):
    model = build(name, **SMALL[name])
    graph = compiled(model, recipe)
    batch = batch_of(graph, *_arrays(model))
    state = calibrated(graph, batch)
    if "loss_scale" in state:  # the first scale is so large that a step may overflow, and be skipped
        state["loss_scale"] = np.ones_like(state["loss_scale"])
    return graph, step(graph, state, batch)


def test_every_model_is_here():
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("recipe", ["fp16", "ibm2020"])
@pytest.mark.parametrize("name", NAMES)
def test_it_takes_a_step(name, recipe):
    graph, outputs = stepped(name, recipe)
    # Twice that of a guess, for networks whose first logits spread.
    assert 0 < outputs["loss"] < 2 * np.log(_classes(name))
    assert graph.manifest.frozen == []
    for parameter, gradient in gradients(graph, outputs).items():
        assert np.isfinite(gradient).all(), parameter


def _classes(name):
    return _shape(build(name, **SMALL[name]).graph.output[0])[-1]


@pytest.mark.parametrize("name", NAMES)
def test_all_but_the_ends_is_in_four_bits(name):
    plan = stepped(name, "ibm2020")[0].plan
    high = {(site.group or site.name, site.reason) for site in plan.sites if site.precision != "4-bit"}
    embedded = name in ("lstm_lm", "transformer", "transformer_lm", "transformer_seq2seq")
    assert sorted(reason for _, reason in high) == [*([] if embedded else ["first site"]), "last site"]


ATTENTION = {
    "vit": ["layers.0.attention"],
    "transformer": ["layers.0.attention"],
    "transformer_lm": ["layers.0.attention"],
    "transformer_seq2seq": ["decoder.0.attention", "decoder.0.cross", "encoder.0.attention"],
}


@pytest.mark.parametrize(("name", "places"), ATTENTION.items())
def test_products_of_attention_are_sites(name, places):
    sites = {site.name: site for site in stepped(name, "ibm2020")[0].plan.sites}
    for place in places:
        scores, mix = sites[f"{place}.scores"], sites[f"{place}.mix"]
        assert (scores.points["fwd.x"], scores.points["fwd.w"]) == ("int4 pact", "int4 pact")
        assert (mix.points["fwd.x"], mix.points["fwd.w"]) == ("uint4 pact", "int4 pact")
        assert scores.weights == mix.weights == 0


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("lstm_lm", {"lstm1.recurrent": 5, "lstm2.recurrent": 5}),
        ("bilstm", {f"lstm{i}.{side}.recurrent": 4 for i in (1, 2) for side in ("forward", "reverse")}),
    ],
)
def test_recurrent_products_are_sites(name, groups):
    graph, _ = stepped(name, "ibm2020")
    for group, count in groups.items():
        sites = [site for site in graph.plan.sites if site.group == group]
        assert [site.precision for site in sites] == ["4-bit"] * count
        assert f"{group}.clip" in graph.manifest.clips


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_large_ones_convert(name):
    """As for ImageNet."""
    graph = compiled(build(name, input_shape=(3, 224, 224), classes=1000), "ibm2020")
    assert graph.plan.share > 0.9
    assert {site.reason for site in graph.plan.sites} == {"", "first site", "last site"}
