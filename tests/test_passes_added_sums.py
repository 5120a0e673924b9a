"""Sums of gradients are additions in training graphs; no bit changes."""

import numpy as np
import pytest
from graphs import graph, text
from pass_runs import assert_same_bits
from training_graph import batch_of, calibrated, compiled, run

from fourbit_onnx.models import registry
from fourbit_onnx.passes import pipeline
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


@pytest.fixture(params=["fp32", "fp16", "ibm2020"])
def with_and_without(request, monkeypatch):
    """The training graph of a Transformer, as it is and as it would be."""
    model = registry.build("transformer", width=32, layers=2, length=20)
    found = compiled(model, request.param)
    monkeypatch.setattr(pipeline, "added_sums", lambda graph: 0)
    return found, compiled(model, request.param)


def operators(model, op):
    return sum(node.op_type == op and not node.domain for node in model.graph.node)


def test_all_training_graphs_have_additions(with_and_without):
    """The baselines, too: this is not about four bits."""
    found, without = (made.training for made in with_and_without)
    # In each of two layers: one of three (readers of an attention's input), two of two (ways round a branch).
    assert (operators(found, "Sum"), operators(without, "Sum")) == (0, 6)
    assert operators(found, "Add") == operators(without, "Add") + 2 * (2 + 1 + 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_has_the_same_bits(with_and_without, threads):
    found, without = with_and_without
    rng = np.random.default_rng(0)
    batch = batch_of(found, rng.integers(0, 64, (4, 20)), rng.integers(0, 10, 4))
    state = calibrated(found, batch)
    expected, numbers = (run(made.training, {**state, **batch}, threads=threads) for made in (without, found))
    assert_same_bits(numbers, expected)
