"""Numbers in the model's code are not trained; parameters that only look shared are told about."""

import logging

import numpy as np
from graphs import model

from fourbit_onnx.passes.find_parameters import find_parameters
from fourbit_onnx.passes.standardize import standardize
from fourbit_onnx.passes.training_form import training_form

X = "(float[N,4] x) => (float[N,4] y)"


def parameters(body, values):
    graph = standardize(model(X, body, values))
    training_form(graph)
    return find_parameters(graph).parameters


def test_a_constant_node_is_no_parameter_but_where_a_weight_stands():
    literal = "c = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()"
    weights = {"w": np.ones((4, 4), np.float32) * np.arange(4, dtype=np.float32)}
    assert parameters(f"h = MatMul (x, w) {literal} y = Add (h, c)", weights) == ["w"]
    assert parameters(f"h = MatMul (x, w) {literal} y = Gemm (h, w, c)", weights) == ["c", "w"]
    initialiser = weights | {"c": np.arange(4, dtype=np.float32)}
    assert parameters("h = MatMul (x, w) y = Add (h, c)", initialiser) == ["c", "w"]


def test_separation_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = parameters("h = Add (x, b) y = Add (h, b)", {"b": np.zeros(4, np.float32)})
    assert found == ["b", "b.2"]
    assert "'b' is 0 throughout and read by 2 nodes: taken for as many parameters" in caplog.text
