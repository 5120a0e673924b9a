"""A matrix of codes that many products read the long way round is transposed once."""

import pytest
from graphs import graph, text
from pass_runs import assert_same_step, with_and_without
from test_passes_lower_lstm import LABELS, H, T, data, lstm
from training_graph import gradients

from fourbit_onnx.passes.turn_codes import turn_codes

TABLES = "a_values = [0], b_values = [0]"


def of(op, left, right, flags="", shape="4,6", outputs=4, code="int4"):
    """Products of a 4-bit ``a`` (of x) and ``b`` (of w)."""
    number = 22 if code == "int4" else 21
    results = ", ".join(f"float[6,6] y{i}" for i in range(1, outputs + 1))
    body = (
        f"a = QuantizeLinear <output_dtype = 22> (x, s) b = QuantizeLinear <output_dtype = {number}> (w, s)"
    )
    for i in range(1, outputs + 1):
        body += f" y{i} = ai.fourbit.{op} <{TABLES}{flags}> ({left}, s, z, {right}, s, z)"
    return f"(float[6,4] x, float[{shape}] w, float s, int32 z) => ({results})", body


@pytest.mark.parametrize(
    ("left", "right", "shape", "before", "after"),
    [
        ("a", "b", "4,6", "", ", trans_b = 1"),
        ("a", "b", "4,6", ", trans_b = 0", ", trans_b = 1"),
        ("b", "a", "4,6", ", trans_a = 1, trans_b = 1", ", trans_a = 0, trans_b = 1"),
    ],
    ids=["right", "right, said", "left"],
)
def test_it_is_transposed_for_all(left, right, shape, before, after):
    g = graph(*of("QMatMul", left, right, before, shape), infer=True)
    assert turn_codes(g) == 4
    turned = "t = ai.fourbit.TransposeCodes (b) y1 ="
    names = {"b": "t", "a": "a"}
    signature, body = of("QMatMul", names[left], names[right], after, shape)
    assert text(g) == text(graph(signature, body.replace("y1 =", turned)))
    assert turn_codes(g) == 0


@pytest.mark.parametrize(
    "case",
    [
        of("QMatMul", "a", "b", outputs=3),
        of("QMatMul", "a", "b", ", trans_b = 1", shape="6,4"),
        of("QMatMul", "b", "a", ", trans_b = 1", shape="6,4"),
        of("QMatMul", "a", "b", code="uint4"),
        of("QMatMul", "a", "b", shape="2,4,6"),
        of("QOther", "a", "b"),
    ],
    ids=["three", "columns, right", "columns, left", "uint4", "a batch", "another operator"],
)
def test_what_is_left_alone(case):
    g = graph(*case, infer=True)
    before = text(g)
    assert turn_codes(g) == 0
    assert text(g) == before


def test_a_shape_that_is_not_known_is_left_alone():
    signature, body = of("QMatMul", "a", "c")
    body = body.replace(" y1", " c = other.Use (b) y1")
    assert turn_codes(graph(signature, body)) == 0


@pytest.mark.parametrize("recipe", ["ibm2020-onephase", "ibm2020"])
def test_the_input_gradients_of_an_lstm_read_one_transpose(monkeypatch, recipe):
    """And a training step keeps its bits."""
    turned, plain = with_and_without(monkeypatch, "turn_codes", lstm(), recipe)
    (node,) = (node for node in turned.training.graph.node if node.op_type == "TransposeCodes")
    readers = [reader.name for reader in turned.training.graph.node if node.output[0] in reader.input]
    assert sorted(readers) == [f"l.recurrent.{t}/input_grad" for t in range(1, T)]
    outputs = assert_same_step(turned, plain, (data(), LABELS))
    assert gradients(turned, outputs)["r"].shape == (1, 4 * H, H)
