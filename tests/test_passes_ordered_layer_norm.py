"""Layer normalisation has operators of its own in 4-bit training graphs."""

import numpy as np
import pytest
from graphs import graph, model, text
from native import needs_library
from own_operators import compare_a_step
from training_graph import batch_of, calibrated, compiled, gradients, step

from fourbit_onnx.models import registry
from fourbit_onnx.passes.ordered_layer_norm import ordered_layer_norm

SIGNATURE = "(float[N,3,4] x, float[4] s, float[4] b, float[N,3,4] dy) => (float[N,3,4] y, float[N,3,4] dx)"
NORMAL = "y, m, d = LayerNormalization {0} (x, s, b)"
GRADIENT = "dx, ds, db = {0} (dy, x, s, m, d)"
OURS, RUNTIME = "ai.fourbit.LayerNormGrad", "com.microsoft.LayerNormalizationGrad"


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [("", ""), ("<axis = -1, epsilon = 0.001, stash_type = 1>", "<epsilon = 0.001>"), ("<axis = 2>", "")],
)
def test_forward_and_backward(attributes, kept):
    g = graph(SIGNATURE, f"{NORMAL.format(attributes)} {GRADIENT.format(RUNTIME + attributes)}")
    assert ordered_layer_norm(g) == 2
    after = graph(SIGNATURE, f"y, m, d = ai.fourbit.LayerNorm {kept} (x, s, b) {GRADIENT.format(OURS)}")
    assert text(g) == text(after)
    assert ordered_layer_norm(g) == 0


@pytest.mark.parametrize("attributes", ["<axis = 1>", "<axis = -2>"])
def test_a_scale_that_has_not_the_axes_of_a_row(attributes):
    g = graph(SIGNATURE, f"{NORMAL.format(attributes)} {GRADIENT.format(RUNTIME)}")
    assert ordered_layer_norm(g) == 1
    assert text(g) == text(graph(SIGNATURE, f"{NORMAL.format(attributes)} {GRADIENT.format(OURS)}"))


@pytest.mark.parametrize(
    "body",
    [
        f"{NORMAL.format('')} dx = Neg (dy)",
        f"{NORMAL.format('')} {GRADIENT.format('other.LayerNormalizationGrad')}",
        f"{NORMAL.format('')} {GRADIENT.format('com.microsoft.InvertibleLayerNormalizationGrad')}",
    ],
    ids=["no gradient", "another domain", "another gradient"],
)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert ordered_layer_norm(g) == 0
    assert text(g) == before


@pytest.mark.parametrize(
    ("recipe", "forward", "backward"),
    [
        ("ibm2020", "LayerNorm", "LayerNormGrad"),
        ("fp32", "LayerNormalization", "LayerNormalizationGrad"),
    ],
)
def test_4_bit_graphs_have_ours_and_the_baselines_have_not(recipe, forward, backward):
    found = compiled(registry.build("transformer", width=32, layers=1), recipe)
    ops = [node.op_type for node in found.training.graph.node if "LayerNorm" in node.op_type]
    assert sorted(ops) == [forward] * 3 + [backward] * 3


@pytest.mark.parametrize("recipe", ["ibm2020-static", "fp32"])
@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_normalisation_without_bias_is_one_with_a_bias_of_0(recipe, native):
    """But for the gradient of the bias."""
    rng = np.random.default_rng(0)
    values = {
        name: rng.normal(0, 0.3, shape) for name, shape in (("a", (8, 16)), ("b", (16, 16)), ("c", (16, 4)))
    }
    values = {name: np.float32(value) for name, value in values.items()} | {"s": np.ones(16, np.float32)}
    batch = rng.normal(0, 1, (6, 8)).astype(np.float32), rng.integers(0, 4, 6)

    def found(normalised, given):
        body = f"p = MatMul (x, a) n = LayerNormalization ({normalised}) q = MatMul (n, b) y = MatMul (q, c)"
        made = compiled(model("(float[N,8] x) => (float[N,4] y)", body, values | given), recipe)
        named = batch_of(made, *batch)
        return gradients(made, step(made, calibrated(made, named), named, native=native))

    without, with_bias = found("p, s", {}), found("p, s, o", {"o": np.zeros(16, np.float32)})
    assert set(with_bias) == {*without, "o"}
    for name, value in without.items():
        np.testing.assert_array_equal(value, with_bias[name], err_msg=name)


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_training_step_is_the_one_of_the_runtime_but_for_rounding(native):
    compare_a_step(ordered_layer_norm, ["LayerNorm", "LayerNormGrad"], native)
