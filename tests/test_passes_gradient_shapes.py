"""The gradient of a parameter has the shape of the parameter, however often the parameter is repeated."""

import numpy as np
import pytest
from graphs import graph, run

from fourbit_onnx.passes.differentiate import differentiate
from fourbit_onnx.passes.roles import Roles

END = " loss = ReduceMean <keepdims = 0> (y)"


def differentiated(body, signature, values):
    g = graph(signature, body + END, values, infer=True)
    trained, gradients = differentiate(g, Roles(["x"], ["loss"], parameters=["p"]))
    return trained, gradients["p"]


# Of a parameter that is repeated; the batch has no known size.
REPEATED = {
    "a row": ([3], "y = Add (x, p)"),
    "a column": ([2, 1], "y = Mul (x, p)"),
    "a token": ([1, 1, 3], "y = Sub (x, p)"),
    "a number": ([], "y = Div (x, p)"),
    "expanded": ([1, 2, 1], "s = Shape (x) y = Expand (p, s)"),
    "a vector that a product adds": ([3], "f = Reshape (x, rows) y = Gemm <beta = 0.5> (f, w, p)"),
    "a number that a product adds": ([], "f = Reshape (x, rows) y = Gemm <beta = 0.5> (f, w, p)"),
    "a number in a vector": ([1], "f = Reshape (x, rows) y = Gemm <beta = 0.5> (f, w, p)"),
    "a product of a matrix": ([3, 3], "y = MatMul (x, p)"),
}


@pytest.mark.parametrize(("shape", "body"), REPEATED.values(), ids=REPEATED)
def test_a_gradient_has_the_shape_of_its_parameter(shape, body):
    """It is declared, and it is computed: the optimiser takes no other."""
    signature = f"(float[N,2,3] x, float{shape or ''} p) => (float loss)"
    values = {"rows": np.array([-1, 3]), "w": np.eye(3, dtype=np.float32)}
    trained, gradient = differentiated(body, signature, values)
    declared = next(tensor for tensor in trained.outputs if tensor.name == gradient)
    assert list(declared.shape) == shape
    unsqueezed = any(node.op == "Unsqueeze" for node in trained.nodes)
    assert unsqueezed == ("Gemm" in body and not shape)  # by the pass; a vector needs none
    feeds = {"x": np.ones((4, 2, 3), np.float32), "p": np.ones(shape, np.float32)}
    assert list(run(trained, feeds)[gradient].shape) == shape


def test_a_number_that_a_product_adds_is_trained():
    """The mean of 16 results has a gradient of 1 for what is added to each, times beta: to the bit."""
    signature = "(float[4,4] x, float p) => (float loss)"
    values = {"w": np.eye(4, dtype=np.float32)}
    trained, gradient = differentiated("y = Gemm <beta = 0.5> (x, w, p)", signature, values)
    feeds = {"x": np.ones((4, 4), np.float32), "p": np.float32(1)}
    assert run(trained, feeds)[gradient] == 0.5
