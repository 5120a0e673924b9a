"""Numbers in the model's code are not trained; parameters that only look shared are told about."""

import logging

import numpy as np
from graphs import model

from fourbit_onnx.passes.find_parameters import find_parameters
from fourbit_onnx.passes.standardize import standardize
from fourbit_onnx.passes.training_form import training_form

X = "(float[N,4] x) => (float[N,4] y)"


def roles_of(body, values):
    graph = standardize(model(X, body, values))
    training_form(graph)
    return find_parameters(graph)


def parameters(body, values):
    return roles_of(body, values).parameters


def test_a_constant_node_is_no_parameter_where_a_weight_is_an_initialiser():
    literal = "c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()"
    weights = {"w": np.ones((4, 4), np.float32) * np.arange(4, dtype=np.float32)}
    assert parameters(f"h = MatMul (x, w) {literal} y = Add (h, c)", weights) == ["w"]
    assert parameters(f"h = MatMul (x, w) {literal} y = Gemm (h, w, c)", weights) == ["w"]
    initialiser = weights | {"c": np.arange(4, dtype=np.float32)}
    assert parameters("h = MatMul (x, w) y = Add (h, c)", initialiser) == ["c", "w"]


TABLE = "v = Constant <value = float[4,4] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> ()"


def test_a_table_of_the_code_is_no_weight_though_it_is_multiplied():
    """As in ``x @ torch.tensor(table)``, whose own weights may stand behind a Transpose."""
    body = f"t = Transpose <perm = [1, 0]> (w) h = MatMul (x, t) {TABLE} y = MatMul (h, v)"
    roles = roles_of(body, {"w": np.arange(16, dtype=np.float32).reshape(4, 4)})
    assert (roles.parameters, roles.frozen) == (["w"], ["v"])


def test_constant_nodes_are_the_weights_of_a_model_without_others():
    """As frozen TorchScript and some other exporters write them."""
    literal = "c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()"
    values = {"s": np.float32(2), "i": np.array([0, 1, 1, 0])}  # initialisers, but no weights
    body = f"{TABLE} {literal} h = Gemm (x, v, c) k = Mul (h, s) j = Add (i, i) y = Gather <axis = 1> (k, j)"
    roles = roles_of(body, values)
    assert (roles.parameters, roles.frozen) == (["c", "v"], [])


def test_separation_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = parameters("h = Add (x, b) y = Add (h, b)", {"b": np.zeros(4, np.float32)})
    assert found == ["b", "b.2"]
    assert "'b' is 0 throughout and read by 2 nodes: taken for as many parameters" in caplog.text
