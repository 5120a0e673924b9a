"""Gradients of biases are sums of our own in 4-bit training graphs."""

import numpy as np
import pytest
from graphs import graph, text
from native import needs_library
from own_operators import compare_a_step, count

from fourbit_onnx.passes.ordered_sum_rows import ordered_sum_rows

SIGNATURE = "({0}[N,3,4] x, int64[K] k) => ({0}[4] y)"


@pytest.mark.parametrize(
    ("axes", "axis"), [([1, 0], 2), ([0, 1], 2), ([-2, 0], 2), ([0], 1), ([-3], 1)], ids=str
)
def test_it_is_replaced(axes, axis):
    signature = SIGNATURE.format("float")
    g = graph(signature, "y = ReduceSum <keepdims = 0> (x, axes)", {"axes": np.array(axes)})
    assert ordered_sum_rows(g) == 1
    assert text(g) == text(graph(signature, f"y = ai.fourbit.SumRows <axis = {axis}> (x)"))
    assert ordered_sum_rows(g) == 0


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        ("float", "ReduceSum (x, axes)"),
        ("float", "ReduceSum <keepdims = 1> (x, axes)"),
        ("float", "ReduceSum <keepdims = 0> (x)"),
        ("float", "ReduceSum <keepdims = 0> (x, k)"),
        ("float", "ReduceSum <keepdims = 0> (x, none)"),
        ("float", "ReduceSum <keepdims = 0> (x, all)"),
        ("float", "ReduceSum <keepdims = 0> (x, second)"),
        ("float", "ReduceSum <keepdims = 0> (x, outer)"),
        ("double", "ReduceSum <keepdims = 0> (x, axes)"),
        ("float", "ReduceMean <keepdims = 0> (x, axes)"),
        ("float", "other.ReduceSum <keepdims = 0> (x, axes)"),
    ],
)
def test_what_is_left_alone(kind, node):
    axes = {"axes": [1, 0], "none": [], "all": [0, 1, 2], "second": [1], "outer": [0, 2]}
    values = {name: np.array(value, np.int64) for name, value in axes.items()}
    g = graph(SIGNATURE.format(kind), f"y = {node}", values)
    before = text(g)
    assert ordered_sum_rows(g) == 0
    assert text(g) == before


def test_a_tensor_of_unknown_rank_is_left_alone():
    body = "h = other.Use (x) y = ReduceSum <keepdims = 0> (h, axes)"
    assert ordered_sum_rows(graph(SIGNATURE.format("float"), body, {"axes": np.array([0, 1])})) == 0


def test_4_bit_graphs_have_ours_and_the_baselines_have_not():
    """Biases of six products, of two normalisations ... and the embedding of places."""
    assert count("ibm2020", "SumRows") == count("fp32", "ReduceSum") - count("ibm2020", "ReduceSum") > 6
    assert count("fp32", "SumRows") == 0


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_training_step_is_the_one_of_the_runtime_but_for_rounding(native):
    compare_a_step(ordered_sum_rows, ["SumRows"], native)
