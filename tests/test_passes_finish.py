"""The last check knows the operators that ONNX Runtime keeps in the standard domain."""

import numpy as np
from graphs import model
from training_graph import batch_of, compiled, gradients, step


def test_a_pool_without_other_operators_of_the_runtime():
    """Its gradient is of such an operator, and the graph has no other set of operators."""
    pool = "h = Mul (x, w) m = MaxPool <kernel_shape = [2]> (h)"
    body = f"{pool} q = Mul (m, m) loss = ReduceSum <keepdims = 0> (q)"
    proto = model("(float[N,1,5] x) => (float loss)", body, {"w": np.arange(5, dtype=np.float32)})
    found = compiled(proto, loss="output")
    assert [entry.domain for entry in found.training.opset_import] == [""]
    got = gradients(found, step(found, found.state, batch_of(found, np.ones((2, 1, 5), np.float32))))["w"]
    np.testing.assert_array_equal(got, [0, 4, 8, 12, 16])  # 2 w of either sample
