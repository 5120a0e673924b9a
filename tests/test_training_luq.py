"""LUQ in a whole model: unbiased draws from the counter, the same after a resume and on other threads."""

import dataclasses

import numpy as np
import onnx.parser
import pytest
from native import assert_same_bits, found, needs_library
from test_passes_dropout import model as with_dropout
from training_graph import batch_of, calibrated, compiled, step

from fourbit_onnx.api import convert
from fourbit_onnx.formats import integer, sawb, stochastic
from fourbit_onnx.formats.table import FORMATS, decode
from fourbit_onnx.models import registry
from fourbit_onnx.passes.pipeline import Options, build
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Quantizer
from fourbit_onnx.runtime.trainer import Trainer

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(0, 1, (24, 1, 8, 8)).astype(np.float32), RNG.integers(0, 10, 24)
NATIVE = [False, pytest.param(True, marks=needs_library)]


def resnet8():
    return registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=8, seed=0)


def nodes(model, op):
    return [node for node in model.graph.node if node.op_type == op and node.domain == "ai.fourbit"]


@pytest.mark.parametrize("name", ["luq", "luq-smp2"])
def test_the_graph(name):
    graphs = compiled(resnet8(), name)
    sites = sum(site.precision == "4-bit" for site in graphs.plan.sites)
    draws = 3 if name == "luq-smp2" else 2
    assert len(nodes(graphs.training, "QuantizeLogStochastic")) == draws * sites
    uniform = nodes(graphs.training, "RandomUniform")
    assert len({node.attribute[0].i for node in uniform}) == len(uniform) == draws * sites
    assert {node.input[1] for node in uniform} == {"random_state"}
    assert len(nodes(graphs.training, "UnderflowScale")) == sites  # one for all draws of a gradient
    assert not nodes(graphs.evaluation, "RandomUniform")
    assert "random_state" not in {tensor.name for tensor in graphs.evaluation.graph.input}
    weight_grads = [node for node in nodes(graphs.training, "QConvWeightGrad")]
    assert len(weight_grads) == sites * (draws - 1)
    first, second = weight_grads[0], weight_grads[draws - 2]
    assert (first.input[3] == second.input[3]) == (draws == 2)


@pytest.mark.parametrize("native", NATIVE, ids=["body", "native"])
def test_two_samples_are_averaged(native):
    """The weight's gradient is the mean of what the two products give, and they differ."""
    graphs = compiled(resnet8(), "luq-smp2")
    (node, *_) = (node for node in graphs.training.graph.node if node.name.endswith(".dw/samples"))
    parts = list(node.input)
    (mean,) = (other.output[0] for other in graphs.training.graph.node if node.output[0] in other.input)
    for name in (*parts, mean):
        if name not in {output.name for output in graphs.training.graph.output}:
            graphs.training.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    batch = batch_of(graphs, IMAGES, LABELS)
    found = step(graphs, calibrated(graphs, batch), batch, native=native)
    a, b = (found[part] for part in parts)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(found[mean], (a + b) * np.float32(0.5))


def test_the_gradient_is_unbiased():
    """Mean over 400 steps of the counter, the same weights: within 5 standard errors of the mean.

    The reference has the same codes forward and float32 gradients, so the gradient of the last 4-bit
    layer's weights differs by the rounding of its dy alone.
    """
    exact = onnx.parser.parse_model(WITHOUT_DROPOUT)
    sawb = Quantizer("int4", "sawb")
    luq = dataclasses.replace(table.find("luq"), name="mine", activation=sawb, keep_ends=False)
    graphs = compiled_with(exact, luq)
    rng = np.random.default_rng(1)
    batch = batch_of(graphs, rng.normal(0, 1, (16, 8)).astype(np.float32), rng.integers(0, 4, 16))
    state = calibrated(graphs, batch)
    draws = []
    for counter in range(400):
        values = state | {"random_state": np.array(counter, np.int64)}
        draws.append(step(graphs, values, batch, native=bool(not found()))["w2.grad"])
    mean = np.mean(draws, 0, np.float64)
    wanted, deviation = reference_gradient(state, batch)
    error = deviation / np.sqrt(len(draws))
    assert (error > 1e-4).mean() > 0.5  # the rest are units that no sample wakes
    # 1e-6: float32 sums of the forward pass and the softmax, in numbers below 1
    assert (np.abs(mean - wanted) <= 5 * error + 1e-6).all()


def numbers(seed, count):
    values = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    return ", ".join(map(str, values.tolist()))


WITHOUT_DROPOUT = f"""<ir_version: 10, opset_import: ["": 21]>
g (float[batch, 8] x) => (float[batch, 4] y)
  <float[8, 64] w1 = {{{numbers(0, 512)}}}, float[64, 4] w2 = {{{numbers(1, 256)}}}> {{
    h = MatMul (x, w1)
    r = Relu (h)
    y = MatMul (r, w2)
}}"""


def compiled_with(model, recipe, **options):
    return build(model, Options(recipe, **options))


def reference_gradient(state, batch):
    """d loss / d w2 with quantised operands forward and dy in float64; its deviation with dy rounded.

    A draw between lo and hi, at m, has the variance (m - lo) (hi - m).
    """

    def rounded(x):
        row = FORMATS["int4"]
        return decode(integer.encode(x, sawb.scale(x), row), sawb.scale(x), row).astype(np.float64)

    x, labels = batch["x"], batch["labels"]
    h = (rounded(x) @ rounded(state["w1"])).astype(np.float32)
    r = rounded(np.maximum(h, 0))
    y = r @ rounded(state["w2"])
    p = np.exp(y - y.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    dy = p / len(labels)
    scale = np.abs(dy).max() / 64
    levels = np.array([*stochastic.levels(FORMATS["log2"]), 128.0])
    m = np.abs(dy) / scale
    below = np.searchsorted(levels[1:-1], m, side="right")
    variance = (m - levels[below]) * (levels[below + 1] - m) * scale**2 * (m < 64)
    return r.T @ dy, np.sqrt(r.T**2 @ variance)


def fit(folder, epochs, seed=5, resume=False):
    trainer = Trainer(folder)
    trainer.fit(
        {"image": IMAGES, "labels": LABELS}, epochs=epochs, batch_size=8, learning_rate=0.05, seed=seed,
        resume=resume, progress=False,
    )  # fmt: skip
    return trainer.state.tensors


@pytest.mark.parametrize("name", ["luq", "luq-smp2"])
def test_a_resumed_run(tmp_path, name):
    for part in ("whole", "parts", "other"):
        convert(resnet8(), tmp_path / part, recipe=name)
    whole = fit(tmp_path / "whole", 2)
    fit(tmp_path / "parts", 1)
    parts = fit(tmp_path / "parts", 2, resume=True)
    other = fit(tmp_path / "other", 2, seed=6)
    assert whole["random_state"] == (5 << 32) + 6
    for key, value in whole.items():
        np.testing.assert_array_equal(value, parts[key], err_msg=key)
    assert any(not np.array_equal(value, other[key]) for key, value in whole.items())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("native", NATIVE, ids=["body", "native"])
def test_products_do_not_depend_on_threads(threads, native):
    """Codes of every draw: the same bits as one thread's on the bodies."""
    graphs = compiled(resnet8(), "luq-smp2")
    batch = batch_of(graphs, IMAGES, LABELS)
    state = calibrated(graphs, batch)
    got = step(graphs, state, batch, native=native, threads=threads)
    wanted = step(graphs, state, batch)
    assert_same_bits(list(got.values()), list(wanted.values()))


def test_dropout_and_gradients_draw_from_streams_of_their_own():
    graphs = compiled_with(with_dropout(), dataclasses.replace(table.find("luq"), keep_ends=False))
    streams = [node.attribute[0].i for node in nodes(graphs.training, "RandomUniform")]
    assert len(set(streams)) == len(streams) == 4  # a mask, dgrad of the second layer, two wgrads
    assert min(streams) == 0
    assert [t.name for t in graphs.training.graph.input].count("random_state") == 1
    assert (
        sum(node.op_type == "Add" and "random_state" in node.input for node in graphs.training.graph.node)
        == 1
    )


@pytest.mark.parametrize("format", ["int4 absmax", "log4 odd gradient", "log4 even learned"])
@pytest.mark.parametrize("native", NATIVE, ids=["body", "native"])
def test_stochastic_rounding_of_other_formats(format, native):
    quantizer = Quantizer.parse(f"{format} stochastic")
    recipe = dataclasses.replace(table.find("luq"), name="mine", dgrad=quantizer, wgrad=quantizer)
    graphs = compiled_with(resnet8(), recipe)
    batch = batch_of(graphs, IMAGES, LABELS)
    state = calibrated(graphs, batch)
    first = step(graphs, state, batch, native=native)
    again = step(graphs, state | {"random_state": np.array(1, np.int64)}, batch, native=native)
    gradients = [name for name in graphs.manifest.gradients.values() if "layer" in name]
    assert any(not np.array_equal(first[name], again[name]) for name in gradients)
    assert_same_bits([first["loss"]], [again["loss"]])
