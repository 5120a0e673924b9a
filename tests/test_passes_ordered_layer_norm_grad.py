"""Layer normalisation has a gradient of its own in 4-bit training graphs."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, text
from native import needs_library
from training_graph import batch_of, compiled, gradients, run, step

from fourbit_onnx.models import registry
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, VERSION
from fourbit_onnx.passes.ordered_layer_norm_grad import ordered_layer_norm_grad

SIGNATURE = (
    "(float[N,4] dy, float[N,4] x, float[4] s, float[N,1] m, float[N,1] d) => (float[N,4] dx, float[4] ds)"
)
RUNTIME = "com.microsoft.LayerNormalizationGrad"


@pytest.mark.parametrize("attributes", ["", "<axis = -1, epsilon = 0.001>", "<axis = 1>"])
def test_it_is_replaced(attributes):
    g = graph(SIGNATURE, f"dx, ds, db = {RUNTIME} {attributes} (dy, x, s, m, d)")
    assert ordered_layer_norm_grad(g) == 1
    assert text(g) == text(graph(SIGNATURE, "dx, ds, db = ai.fourbit.LayerNormGrad (dy, x, s, m, d)"))
    assert ordered_layer_norm_grad(g) == 0


@pytest.mark.parametrize(
    "op", ["other.LayerNormalizationGrad", "com.microsoft.InvertibleLayerNormalizationGrad"]
)
def test_what_is_left_alone(op):
    g = graph(SIGNATURE, f"dx, ds, db = {op} (dy, x, s, m, d)")
    before = text(g)
    assert ordered_layer_norm_grad(g) == 0
    assert text(g) == before


def test_4_bit_graphs_have_ours_and_the_baselines_have_not():
    model = registry.build("transformer", width=32, layers=1)
    ops = {
        recipe: [
            node.op_type
            for node in compiled(model, recipe).training.graph.node
            if node.op_type.startswith("LayerNorm") and node.op_type.endswith("Grad")
        ]
        for recipe in ("ibm2020", "fp32")
    }
    assert ops == {"ibm2020": ["LayerNormGrad"] * 3, "fp32": ["LayerNormalizationGrad"] * 3}


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_training_step_is_the_one_of_the_runtime_but_for_rounding(native):
    """In float32, where a rounding that goes the other way moves the rest by little."""
    found = compiled(registry.build("transformer", width=32, layers=2), "fp32")
    rng = np.random.default_rng(0)
    batch = batch_of(found, rng.integers(0, 64, (4, 16)), rng.integers(0, 10, 4))
    expected = step(found, found.state, batch)
    rewritten = gs.import_onnx(found.training)
    assert ordered_layer_norm_grad(rewritten) == 5
    ours = gs.export_onnx(rewritten, do_type_check=False)
    ours.functions.append(FUNCTIONS["LayerNormGrad"])
    ours.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    ours.ir_version = 10
    numbers = run(ours, {**found.state, **batch}, native=native, threads=2)
    assert set(numbers) == set(expected)
    # Sums of at most 64 terms, in another order: some 2**-24 of the largest gradient, a few layers on.
    largest = max(np.abs(gradient).max() for gradient in gradients(found, expected).values())
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=1e-5, abs=1e-5 * float(largest)), name
    assert any((numbers[name] != value).any() for name, value in expected.items())
