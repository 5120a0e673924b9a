"""The gradient of a Clip reads a mask; a training run ends with the same numbers, library or not."""

import numpy as np
import pytest
from graphs import graph, model, text
from pass_runs import trained

from fourbit_onnx.passes import pipeline
from fourbit_onnx.passes.clip_masks import clip_masks

SIGNATURE = "(float[N,4] x, float[N,4] d, float[N,4] e, float[] t) => (float[N,4] y, float[N,4] dx)"
BOUNDS = {"low": np.float32(-0.5), "high": np.float32(6)}
CLIP = "y = Clip (x, low, high)"
MASK = (
    "a = GreaterOrEqual (x, low) b = LessOrEqual (x, high) i = And (a, b) m = Cast <to = 1> (i)"
    " dx = Mul (d, m)"
)
WRONG = MASK.replace("(x, low)", "(x, u)").replace("(x, high)", "(x, low)").replace("(x, u)", "(x, high)")
MASKED = "y, k = ai.fourbit.Clip <low = -0.5, high = 6.0> (x)"


def test_a_clip_between_constants():
    g = graph(SIGNATURE, f"{CLIP} {MASK}", BOUNDS)
    assert clip_masks(g) == 1
    assert text(g) == text(graph(SIGNATURE, f"{MASKED} dx = ai.fourbit.ReluGrad (d, k)"))
    assert clip_masks(g) == 0


def test_a_gradient_that_is_a_sum():
    g = graph(SIGNATURE, f"{CLIP} s = Sum (d, e) {MASK.replace('(d,', '(s,')}", BOUNDS)
    assert clip_masks(g) == 1
    assert text(g) == text(graph(SIGNATURE, f"{MASKED} dx = ai.fourbit.SumReluGrad (d, e, k)"))


LEFT_ALONE = {
    "without gradient": f"{CLIP} dx = Identity (d)",
    "one bound": f"y = Clip (x, low) {MASK}",
    "a bound that is computed": f"y = Clip (x, low, t) {MASK.replace('high', 't')}",
    "bounds in the wrong order": f"y = Clip (x, high, low) {WRONG}",
    "another bound above": f"{CLIP} {MASK.replace('(x, high)', '(x, low)')}",
    "another bound below": f"{CLIP} {MASK.replace('(x, low)', '(x, high)')}",
    "another tensor below": f"{CLIP} {MASK.replace('LessOrEqual (x', 'LessOrEqual (e')}",
    "another comparison": f"{CLIP} {MASK.replace('LessOrEqual', 'Less')}",
    "one of two": f"{CLIP} {MASK.replace('And', 'Or')}",
    "one bound twice": f"{CLIP} {MASK.replace('And (a, b)', 'And (a, a)')}",
    "no number of it": f"{CLIP} {MASK.replace('Mul (d, m)', 'Add (d, m)')}",
    "another domain": f"y = other.Clip (x, low, high) {MASK}",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_alone(body):
    g = graph(SIGNATURE, body, BOUNDS)
    before = text(g)
    assert clip_masks(g) == 0
    assert text(g) == before


def test_what_reads_the_comparison_keeps_it():
    g = graph(SIGNATURE.replace("float[N,4] dx)", "float[N,4] dx, bool[N,4] i)"), f"{CLIP} {MASK}", BOUNDS)
    assert clip_masks(g) == 1
    assert sorted(node.op for node in g.nodes) == ["And", "Clip", "GreaterOrEqual", "LessOrEqual", "ReluGrad"]


def clipped_network():
    """Clips that convolutions read, in 4 bits and float32; bounds within what they read."""
    rng = np.random.default_rng(5)
    values = {name: rng.normal(0, 0.5, (4, c, 3, 3)) for name, c in (("f", 1), ("u", 4), ("v", 4))}
    values |= {"h": rng.normal(0, 0.3, (4, 10)), "low": np.array(-0.25), "high": np.array(0.75)}
    body = """
        [first] a = Conv <pads = [1, 1, 1, 1]> (x, f) r = Clip (a, low, high)
        [left] b = Conv <pads = [1, 1, 1, 1]> (r, u)
        [right] c = Conv <pads = [1, 1, 1, 1]> (r, v)
        e = Add (b, c) g = Clip (e, low, high) j = GlobalAveragePool (g) k = Flatten (j)
        [last] y = Gemm (k, h)
    """
    arrays = {name: array.astype(np.float32) for name, array in values.items()}
    return model("(float[N,1,8,8] x) => (float[N,10] y)", body, arrays)


@pytest.mark.parametrize("native", [True, False])
def test_a_training_run_has_the_same_numbers(native, tmp_path, monkeypatch):
    """Not all the same bits: products with 0 may be -0."""
    graphs, state = trained(clipped_network(), tmp_path / "masks", native=native, threads=2, recipe="ibm2020")
    monkeypatch.setattr(pipeline, "clip_masks", lambda graph: 0)
    plain_graphs, plain = trained(
        clipped_network(), tmp_path / "plain", native=native, threads=2, recipe="ibm2020"
    )
    ops, plain_ops = (
        [f"{node.domain}.{node.op_type}" for node in found.training.graph.node]
        for found in (graphs, plain_graphs)
    )
    for op, count, plain_count in (
        (".Clip", 0, 2), (".LessOrEqual", 0, 2), ("ai.fourbit.Clip", 2, 0),
        ("ai.fourbit.ReluGrad", 1, 0), ("ai.fourbit.SumReluGrad", 1, 0),
    ):  # fmt: skip
        assert (ops.count(op), plain_ops.count(op)) == (count, plain_count)
    assert state.keys() == plain.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], plain[name], err_msg=name)
