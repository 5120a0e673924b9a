"""The gradient of a softmax is an operator of our own in 4-bit training graphs."""

import pytest
from graphs import graph, text
from native import needs_library
from own_operators import compare_a_step, count

from fourbit_onnx.passes.ordered_softmax_grad import ordered_softmax_grad

SIGNATURE = "(float[N,3,4] dy, float[N,3,4] y) => (float[N,3,4] dx)"
RUNTIME = "com.microsoft.SoftmaxGrad_13"


@pytest.mark.parametrize("axis", ["", "<axis = -1>", "<axis = 2>"])
def test_it_is_replaced(axis):
    g = graph(SIGNATURE, f"dx = {RUNTIME} {axis} (dy, y)")
    assert ordered_softmax_grad(g) == 1
    assert text(g) == text(graph(SIGNATURE, "dx = ai.fourbit.SoftmaxGrad (dy, y)"))
    assert ordered_softmax_grad(g) == 0


@pytest.mark.parametrize(
    "node",
    [
        f"{RUNTIME} <axis = 1> (dy, y)",
        f"{RUNTIME} <axis = -2> (dy, y)",
        "com.microsoft.SoftmaxGrad <axis = -1> (dy, y)",
        "com.microsoft.LogSoftmaxGrad_13 <axis = -1> (dy, y)",
        "other.SoftmaxGrad_13 <axis = -1> (dy, y)",
    ],
)
def test_what_is_left_alone(node):
    g = graph(SIGNATURE, f"dx = {node}")
    before = text(g)
    assert ordered_softmax_grad(g) == 0
    assert text(g) == before


def test_4_bit_graphs_have_ours_and_the_baselines_have_not():
    assert [count("ibm2020", op) for op in ("SoftmaxGrad", "SoftmaxGrad_13")] == [1, 0]
    assert [count("fp32", op) for op in ("SoftmaxGrad", "SoftmaxGrad_13")] == [0, 1]


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_a_training_step_is_the_one_of_the_runtime_but_for_rounding(native):
    compare_a_step(ordered_softmax_grad, ["SoftmaxGrad"], native)
