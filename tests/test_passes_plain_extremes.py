"""Extremes that something compares with, beside what is trained of them."""

import numpy as np
import pytest
from graphs import check, exact, graph, model, run
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.passes.pipeline import inferred
from fourbit_onnx.passes.plain_extremes import plain_extremes

LAST = {"last": np.array([-1])}
SIGNATURE = "(float[5,7] x) => (float[] y)"
X = np.repeat(np.array([[1.1], [1.7], [1.9], [0.3], [1e-3]], np.float32), 7, 1)  # seven equal numbers


def test_who_compares_with_the_extreme_gets_the_extreme_itself():
    """The mean of seven equal numbers may be another number, and then nothing would equal it."""
    body = "m = ReduceMax (x, last) e = Equal (x, m) f = Cast <to = 1> (e) y = Mul (f, m)"
    g = graph(SIGNATURE, body, LAST, infer=True)
    assert plain_extremes(g) == 1
    assert plain_extremes(g) == 0
    g = inferred(g)
    check(g)
    mean = run(g, {"x": X})["y"]  # 0 where nothing equals it
    assert (mean != X).any()
    np.testing.assert_allclose(mean, X, rtol=8 * 2.0**-24)  # six additions and a division


def test_an_extreme_without_its_axis_is_the_mean_for_all():
    body = "m = ReduceMax <keepdims = 0> (x, last) e = Equal (m, m) f = Cast <to = 1> (e) y = Mul (f, m)"
    g = graph(SIGNATURE, body, LAST, infer=True)
    assert plain_extremes(g) == 1
    [compared] = [node for node in g.nodes if node.outputs[0].name == "e"]
    assert [tensor.inputs[0].op for tensor in compared.inputs] == ["Div", "Div"]


@pytest.mark.parametrize("output", [False, True])
def test_an_extreme_that_is_compared_only_needs_no_gradient(output):
    signature = SIGNATURE.replace("y)", "y, float[5,1] m)") if output else SIGNATURE
    g = graph(signature, "m = ReduceMax (x, last) e = Equal (x, m) y = Cast <to = 1> (e)", LAST, infer=True)
    before = exact(g)
    assert plain_extremes(g) == output
    assert (exact(g) == before) == (not output)


def test_its_gradient_is_that_of_pytorch():
    """Of whole numbers: what is shared among equal elements is divided, and added; on both sides."""
    torch = pytest.importorskip("torch")
    p = np.random.default_rng(0).integers(-3, 4, (5, 7)).astype(np.float32)
    body = """h = Mul (x, p) m = ReduceMax (h, last) e = Equal (h, m) f = Cast <to = 1> (e)
        k = Mul (h, f) d = Sub (k, m) q = Mul (d, d) loss = ReduceSum <keepdims = 0> (q)"""
    found = compiled(model("(float[5,7] x) => (float loss)", body, LAST | {"p": p}), loss="output")
    got = gradients(found, step(found, found.state, batch_of(found, np.ones_like(p))))["p"]
    h = torch.tensor(p, requires_grad=True)
    m = h.amax(-1, keepdim=True)
    ((h * (h == m) - m) ** 2).sum().backward()
    expected = h.grad.numpy()
    assert np.abs(got - expected).max() <= 4 * 2.0**-24 * np.abs(expected).max()
