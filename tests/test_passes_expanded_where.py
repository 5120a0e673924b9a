"""The gradient of an operand of Where is as large as the operand."""

import numpy as np
import pytest
from graphs import graph, model, text
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.passes.expanded_where import expanded_where

Y = "=> (float[N,2,3] y)"
TOKEN = "c = Greater (x, x) y = Where (c, t, x)"


def test_an_operand_that_is_repeated_is_expanded():
    signature = f"(float[N,2,3] x, float[1,1,3] t) {Y}"
    g = graph(signature, TOKEN, infer=True)
    assert expanded_where(g) == 1
    after = "c = Greater (x, x) s = Shape (c) e = Expand (t, s) y = Where (c, e, x)"
    assert text(g) == text(graph(signature, after))
    assert expanded_where(g) == 0


def test_sizes_that_no_operand_has_are_put_together():
    signature = f"(bool[N,1,1] c, float[2,1] t, float[3] u) {Y}"
    g = graph(signature, "y = Where (c, t, u)", infer=True)
    assert expanded_where(g) == 1
    sizes = "i = Shape (t) d = Expand (c, i) j = Shape (u) w = Expand (d, j) s = Shape (w)"
    after = f"{sizes} e = Expand (t, s) f = Expand (u, s) y = Where (c, e, f)"
    assert text(g) == text(graph(signature, after))
    assert expanded_where(g) == 0


LEFT_ALONE = {
    "as large": (f"(bool[N,1,1] c, float[N,2,3] t, float[N,2,3] u) {Y}", {}),
    "a number": (f"(bool[N,1,1] c, float[N,2,3] t) {Y}", {"u": np.float32(-1e9)}),
    "integers": ("(bool[N,1,1] c, int64[2,3] t, int64[3] u) => (int64[N,2,3] y)", {}),
}


@pytest.mark.parametrize(("signature", "values"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(signature, values):
    assert expanded_where(graph(signature, "y = Where (c, t, u)", values, infer=True)) == 0


def test_a_token_in_the_place_of_what_is_masked_is_trained():
    """Its gradient had the size of the batch, and so had the token after a step.

    Sums of 12 whole numbers divided by 12: a few roundings.
    """
    token, w = np.float32([[[1, 2, 3]]]), np.eye(3, dtype=np.float32)
    body = "h = MatMul (x, w) c = Greater (x, z) y = Where (c, t, h)"
    values = {"t": token, "w": w, "z": np.float32(0)}
    found = compiled(model(f"(float[N,2,3] x) {Y}", body, values), loss="mse")
    x = np.random.default_rng(0).integers(-3, 4, (4, 2, 3)).astype(np.float32)
    outputs = step(found, found.state, batch_of(found, x, np.zeros((4, 2, 3), np.float32)))
    got = gradients(found, outputs)
    masked = x > 0
    np.testing.assert_allclose(got["t"], (2 / 24 * token * masked).sum((0, 1), keepdims=True), rtol=2**-20)
    h = np.where(masked, 0, x).reshape(8, 3)
    np.testing.assert_allclose(got["w"], 2 / 24 * x.reshape(8, 3).T @ h, rtol=2**-20, atol=2**-20)
