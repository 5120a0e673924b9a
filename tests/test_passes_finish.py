"""The last check knows the operators that ONNX Runtime keeps in the standard domain."""

import numpy as np
from graphs import model
from training_graph import batch_of, compiled, gradients, step


def test_a_pool_without_other_operators_of_the_runtime():
    """Its gradient is of such an operator, and the graph has no other set of operators."""
    body = "h = Mul (x, w) y = MaxPool <kernel_shape = [2]> (h)"
    proto = model("(float[N,1,6] x) => (float[N,1,5] y)", body, {"w": np.arange(6, dtype=np.float32)})
    found = compiled(proto, loss="mse")
    x, labels = np.ones((2, 1, 6), np.float32), np.ones((2, 1, 5), np.float32)
    got = gradients(found, step(found, found.state, batch_of(found, x, labels)))["w"]
    np.testing.assert_allclose(got, [0, 0, 0.4, 0.8, 1.2, 1.6], rtol=2**-21)  # 2 / 5 (w - 1): few roundings
