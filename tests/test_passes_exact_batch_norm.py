"""Batch normalisation has operators of its own in 4-bit training graphs."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, text
from native import needs_library
from training_graph import batch_of, compiled, run, step

from fourbit_onnx.models import registry
from fourbit_onnx.ops.registry import FUNCTIONS
from fourbit_onnx.ops.text import DOMAIN, VERSION
from fourbit_onnx.passes.exact_batch_norm import exact_batch_norm

INPUTS = "float[N,2,4] x, float[2] g, float[2] b, float[2] m, float[2] v, float[N,2,4] dy"
SIGNATURE = f"({INPUTS}) => (float[] y, float[] dx)"
INTERNAL = "com.microsoft.BatchNormInternal"
NORMAL = "y, nm, nv, sm, si = " + INTERNAL + " <epsilon = 0.001, momentum = 0.8, training_mode = {0}>"
GRADIENT = "dx, dg, db = com.microsoft.BatchNormalizationGrad <epsilon = 0.001> (dy, x, g, {0})"


def test_forward_and_backward():
    g = graph(SIGNATURE, f"{NORMAL.format(1)} (x, g, b, m, v) {GRADIENT.format('sm, si')}")
    assert exact_batch_norm(g) == 1
    after = graph(
        SIGNATURE,
        "y, nm, nv, sm, si = ai.fourbit.BatchNorm <epsilon = 0.001, momentum = 0.8> (x, g, b, m, v)"
        " dx, dg, db = ai.fourbit.BatchNormGrad (dy, x, g, sm, si)",
    )
    assert text(g) == text(after)
    assert exact_batch_norm(g) == 0


@pytest.mark.parametrize(
    "body",
    [
        f"{NORMAL.format(0)} (x, g, b, m, v) {GRADIENT.format('sm, si')}",
        f"{GRADIENT.format('m, v')} y = BatchNormalization (x, g, b, m, v)",
    ],
    ids=["running statistics", "statistics from elsewhere"],
)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert exact_batch_norm(g) == 0
    assert text(g) == before


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_training_step_is_the_one_of_the_runtime_but_for_rounding(native):
    """In float32, where a rounding that goes the other way moves the rest by little."""
    found = compiled(registry.build("resnet8", input_shape=(1, 8, 8), width=4), "fp32")
    rng = np.random.default_rng(0)
    batch = batch_of(found, rng.normal(0, 1, (8, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 8))
    expected = step(found, found.state, batch)
    rewritten = gs.import_onnx(found.training)
    assert exact_batch_norm(rewritten) == 9
    ours = gs.export_onnx(rewritten, do_type_check=False)
    ours.functions.extend(FUNCTIONS[op] for op in ("BatchNorm", "BatchNormGrad"))
    ours.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    ours.ir_version = 10
    numbers = run(ours, {**found.state, **batch}, native=native, threads=2)
    assert set(numbers) == set(expected)
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, rel=1e-3, abs=1e-4 * float(np.abs(value).max())), name
    assert any((numbers[name] != value).any() for name, value in expected.items())
