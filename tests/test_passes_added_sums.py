"""Sums of gradients are additions in 4-bit training graphs; no bit changes."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graphs import graph, text
from own_operators import count
from pass_runs import assert_same_bits
from training_graph import batch_of, compiled, run, step

from fourbit_onnx.models import registry
from fourbit_onnx.passes.added_sums import added_sums

SIGNATURE = "(float[N,3] a, float[N,3] b, float[3] c, float q, float r, double[3] d) => (float[N,3] y)"


@pytest.mark.parametrize(
    ("sums", "additions"),
    [
        ("y = Sum (a, b)", "y = Add (a, b)"),
        ("y = Sum (a, b, c)", "y_of2 = Add (a, b) y = Add (y_of2, c)"),
        ("y = Sum (c, a, a, b)", "y_of2 = Add (c, a) y_of3 = Add (y_of2, a) y = Add (y_of3, b)"),
    ],
)
def test_a_sum_is_written_as_additions(sums, additions):
    g = graph(SIGNATURE, sums, infer=True)
    assert added_sums(g) == 1
    assert text(g) == text(graph(SIGNATURE, additions))
    assert added_sums(g) == 0


@pytest.mark.parametrize(
    "sums",
    [
        "y = Sum (a)",
        "y = Sum (q, r)",
        "y = Sum (a, r)",
        "y = Sum (d, d)",
        "h = other.Use (a) y = Sum (a, h)",
        "y = other.Sum (a, b)",
    ],
)
def test_what_is_left_alone(sums):
    g = graph(SIGNATURE, sums, infer=True)
    before = text(g)
    assert added_sums(g) == 0
    assert text(g) == before


def test_4_bit_graphs_have_additions_and_the_baselines_have_not():
    assert count("ibm2020", "Sum") == 0
    assert (
        count("fp32", "Sum") == 3
    )  # of an attention's three readers, and of the two ways around a branch, twice
    # One of three tensors, two of two; and the counter of the dithered scales.
    assert count("ibm2020", "Add") == count("fp32", "Add") + 2 + 2 * 1 + 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_has_the_same_bits(threads):
    found = compiled(registry.build("transformer", width=32, layers=2, length=20), "fp32")
    rng = np.random.default_rng(0)
    batch = batch_of(found, rng.integers(0, 64, (4, 20)), rng.integers(0, 10, 4))
    expected = step(found, found.state, batch)
    rewritten = gs.import_onnx(found.training)
    assert added_sums(rewritten) == 6
    numbers = run(gs.export_onnx(rewritten, do_type_check=False), {**found.state, **batch}, threads=threads)
    assert_same_bits(numbers, expected)
