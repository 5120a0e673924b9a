"""The gradient of a Relu reads a mask; no bit of a training run changes, with and without the library."""

import pytest
from graphs import graph, text
from pass_runs import CASES, assert_same_bits, trained

from fourbit_onnx.models import registry
from fourbit_onnx.passes import pipeline
from fourbit_onnx.passes.relu_masks import relu_masks

SIGNATURE = (
    "(float[N,4] a, float[N,4] b, float[4] c, float[N,4] d, float[N,4] e) => (float[N,4] y, float[N,4] dz)"
)
GRAD = "com.microsoft.ReluGrad"


def rewritten(before, after, signature=SIGNATURE):
    g = graph(signature, before)
    assert relu_masks(g) == 1
    assert text(g) == text(graph(signature, after))
    assert relu_masks(g) == 0


def test_a_residual_block():
    rewritten(
        f"z = Add (a, b) y = Relu (z) s = Sum (d, e) dz = {GRAD} (s, y)",
        "y, m = ai.fourbit.AddRelu (a, b) dz = ai.fourbit.SumReluGrad (d, e, m)",
    )


def test_nothing_added():
    rewritten(
        f"y = Relu (a) dz = {GRAD} (d, y)",
        "y, m = ai.fourbit.Relu (a) dz = ai.fourbit.ReluGrad (d, m)",
    )


def test_operands_of_two_shapes():
    rewritten(
        f"z = Add (a, c) y = Relu (z) dz = {GRAD} (d, y)",
        "z = Add (a, c) y, m = ai.fourbit.Relu (z) dz = ai.fourbit.ReluGrad (d, m)",
    )


@pytest.mark.parametrize(
    "added",
    ["y = Add (r, z)", "y = Add (r, s)", "f = Shape (z) y = Reshape (r, f)"],
    ids=["forward", "backward", "only its shape"],
)
def test_a_sum_that_something_else_reads(added):
    which = "z" in added
    before = f"z = Add (a, b) r = Relu (z) s = Sum (d, e) dz = {GRAD} (s, r) {added}"
    forward = "z = Add (a, b) r, m = ai.fourbit.Relu (z)" if which else "r, m = ai.fourbit.AddRelu (a, b)"
    backward = (
        "dz = ai.fourbit.SumReluGrad (d, e, m)" if which else "s = Sum (d, e) dz = ai.fourbit.ReluGrad (s, m)"
    )
    rewritten(before, f"{forward} {backward} {added}")


def test_two_gradients_of_one_relu():
    rewritten(
        f"y = Relu (a) q = {GRAD} (d, y) r = {GRAD} (e, y) dz = Mul (q, r)",
        "y, m = ai.fourbit.Relu (a) q = ai.fourbit.ReluGrad (d, m) r = ai.fourbit.ReluGrad (e, m)"
        " dz = Mul (q, r)",
    )


def test_sizes_that_nobody_knows():
    """They may be 1 here and 4 there: AddRelu does not broadcast."""
    signature = SIGNATURE.replace("float[N,4] a, float[N,4] b", "float[N,?] a, float[N,?] b")
    rewritten(
        f"z = Add (a, b) y = Relu (z) dz = {GRAD} (d, y)",
        "z = Add (a, b) y, m = ai.fourbit.Relu (z) dz = ai.fourbit.ReluGrad (d, m)",
        signature,
    )


def test_sums_that_are_outputs():
    signature = SIGNATURE.replace("(float[N,4] y, ", "(float[N,4] z, float[N,4] s, ")
    rewritten(
        f"z = Add (a, b) y = Relu (z) s = Sum (d, e) dz = {GRAD} (s, y)",
        "z = Add (a, b) y, m = ai.fourbit.Relu (z) s = Sum (d, e) dz = ai.fourbit.ReluGrad (s, m)",
        signature,
    )


def test_three_gradients():
    rewritten(
        f"y = Relu (a) s = Sum (d, e, b) dz = {GRAD} (s, y)",
        "y, m = ai.fourbit.Relu (a) s = Sum (d, e, b) dz = ai.fourbit.ReluGrad (s, m)",
    )


LEFT_ALONE = {
    "no gradient": "z = Add (a, b) y = Relu (z) dz = Sum (d, e)",
    "the gradient of another": f"y = Relu (a) dz = {GRAD} (y, d)",
    "another domain": f"y = other.Relu (a) dz = {GRAD} (d, y)",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert relu_masks(g) == 0
    assert text(g) == before


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("case", ["residuals", "several readers"])
def test_a_training_run_has_the_same_bits(case, native, tmp_path, monkeypatch):
    make, options = CASES[case]
    graphs, state = trained(make(), tmp_path / "masks", native=native, threads=2, **options)
    monkeypatch.setattr(pipeline, "relu_masks", lambda graph: 0)
    plain_graphs, plain_state = trained(make(), tmp_path / "plain", native=native, threads=2, **options)
    nodes, plain_nodes = (
        {(node.domain, node.op_type) for node in found.training.graph.node}
        for found in (graphs, plain_graphs)
    )
    assert ("com.microsoft", "ReluGrad") in plain_nodes
    assert ("com.microsoft", "ReluGrad") not in nodes
    assert {("ai.fourbit", "AddRelu"), ("ai.fourbit", "ReluGrad")} & nodes
    assert_same_bits(state, plain_state)


def test_the_float_models_keep_the_operators_of_the_runtime():
    """They are what 4-bit training is compared with."""
    from training_graph import compiled

    model = registry.build("resnet8", input_shape=(1, 8, 8), width=4)
    for recipe in ("fp32", "fp16"):
        ops = {(node.domain, node.op_type) for node in compiled(model, recipe).training.graph.node}
        assert {("", "Relu"), ("com.microsoft", "ReluGrad")} <= ops
