"""A Relu in front of an unsigned PACT quantiser is removed, and no bit of a training run changes."""

import pytest
from graphs import graph, text
from pass_runs import CASES, assert_same_bits, trained

from fourbit_onnx.passes import pipeline
from fourbit_onnx.passes.fold_relu import fold_relu

SIGNATURE = (
    "(float[N,4] z, float[N,4] d, float[N,4] e, float k, float l) => (float[N,4] dz, uint4[] c, uint4[] b)"
)
QUANTIZED = "c, s, m = ai.fourbit.QuantizePact ({0}, k) b, t, n = ai.fourbit.QuantizePact ({0}, l)"
GRADIENTS = "p, u = ai.fourbit.PactGrad (d, c, m) q, v = ai.fourbit.PactGrad (e, b, n)"
FORWARD = f"y = Relu (z) {QUANTIZED.format('y')}"


def test_several_quantisers_and_the_sum_of_their_gradients():
    g = graph(
        SIGNATURE, f"{FORWARD} {GRADIENTS} w = Sum (p, q) a = com.microsoft.ReluGrad (w, y) dz = Neg (a)"
    )
    assert fold_relu(g) == 1
    after = graph(SIGNATURE, f"{QUANTIZED.format('z')} {GRADIENTS} w = Sum (p, q) dz = Neg (w)")
    assert text(g) == text(after)
    assert fold_relu(g) == 0


def test_a_clip_that_learns_of_rounding():
    forward = "c, s, m, r = ai.fourbit.QuantizePact ({0}, k) b, t, n = ai.fourbit.QuantizePact ({0}, l)"
    rest = "p, u = ai.fourbit.PactPlusGrad (d, c, m, r)"
    g = graph(
        SIGNATURE, f"y = Relu (z) {forward.format('y')} {rest} a = com.microsoft.ReluGrad (p, y) dz = Neg (a)"
    )
    assert fold_relu(g) == 1
    assert text(g) == text(graph(SIGNATURE, f"{forward.format('z')} {rest} dz = Neg (p)"))


def test_no_gradient_and_a_reader_of_the_shape():
    signature = "(float[N,4] z, float k) => (uint4[] c, int64[2] h)"
    g = graph(signature, "y = Relu (z) c, s, m = ai.fourbit.QuantizePact (y, k) h = Shape (y)")
    assert fold_relu(g) == 1
    after = graph(signature, "c, s, m = ai.fourbit.QuantizePact (z, k) h = Shape (z)")
    assert text(g) == text(after)


LEFT_ALONE = {
    "the gradient is not PACT's": f"{FORWARD} a = com.microsoft.ReluGrad (d, y) dz = Neg (a)",
    "a part of it is not": f"{FORWARD} {GRADIENTS} w = Sum (p, e)"
    " a = com.microsoft.ReluGrad (w, y) dz = Neg (a)",
    "it is that of the clip": f"{FORWARD} {GRADIENTS} a = com.microsoft.ReluGrad (u, y) dz = Neg (a)",
    "the mask of another tensor": f"{FORWARD} f, g, o = ai.fourbit.QuantizePact (e, k)"
    " p, u = ai.fourbit.PactGrad (d, c, o) a = com.microsoft.ReluGrad (p, y) dz = Neg (a)",
    "another reader": f"{FORWARD} dz = Add (y, d)",
    "a signed quantiser": f"{FORWARD} f, g, o = ai.fourbit.QuantizePactSigned (y, k) dz = other.Use (f)",
    "a clip made of it": f"y = Relu (z) i = ReduceMax (y) {QUANTIZED.format('y')}"
    " f, g, o = ai.fourbit.QuantizePact (y, i) dz = other.Use (f)",
    "its gradient as what was rectified": f"{FORWARD} {GRADIENTS}"
    " a = com.microsoft.ReluGrad (y, p) dz = Neg (a)",
    "a graph output": f"dz = Relu (z) {QUANTIZED.format('dz')}",
    "a gradient that is an output": f"{FORWARD} {GRADIENTS} dz = com.microsoft.ReluGrad (p, y)",
    "it is the clip": "y = Relu (k) c, s, m = ai.fourbit.QuantizePact (z, y) dz = Neg (d)"
    " b, t, n = ai.fourbit.QuantizePact (z, l)",
    "gradients added in another domain": f"{FORWARD} {GRADIENTS} w = other.Sum (p, q)"
    " a = com.microsoft.ReluGrad (w, y) dz = Neg (a)",
    "no quantiser": "y = Relu (z) dz = Identity (d) h = Shape (y) c, b = other.Use (h)",
    "another domain": f"y = other.Relu (z) {QUANTIZED.format('y')} dz = Identity (d)",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body)
    before = text(g)
    assert fold_relu(g) == 0
    assert text(g) == before


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_a_training_run_has_the_same_bits(case, native, tmp_path, monkeypatch):
    make, options = CASES[case]
    graphs, state = trained(make(), tmp_path / "folded", native=native, threads=1, **options)
    monkeypatch.setattr(pipeline, "fold_relu", lambda graph: 0)
    plain_graphs, plain_state = trained(make(), tmp_path / "plain", native=native, threads=1, **options)
    for role in ("training", "evaluation"):
        left = [node.op_type for node in getattr(graphs, role).graph.node].count("Relu")
        assert left < [node.op_type for node in getattr(plain_graphs, role).graph.node].count("Relu")
    assert_same_bits(state, plain_state)
