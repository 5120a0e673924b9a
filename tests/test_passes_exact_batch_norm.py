"""Batch normalisation has operators of its own in 4-bit training graphs."""

import numpy as np
import pytest
from graphs import graph, text
from native import needs_library
from own_operators import compare_a_step
from training_graph import batch_of, compiled

from fourbit_onnx.models import registry
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
    found = compiled(registry.build("resnet8", input_shape=(1, 8, 8), width=4), "fp32")
    rng = np.random.default_rng(0)
    batch = batch_of(found, rng.normal(0, 1, (8, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 8))
    compare_a_step(exact_batch_norm, ["BatchNorm", "BatchNormGrad"], native, found, batch)
