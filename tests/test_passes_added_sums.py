"""Sums of gradients are additions in training graphs; no bit changes."""

import numpy as np
import onnx
import pytest
from graphs import graph, model, text
from pass_runs import assert_same_step, sentences, small_transformer, with_and_without

from fourbit_onnx import convert
from fourbit_onnx.artifacts.manifest import TRAINING_MODEL
from fourbit_onnx.passes.added_sums import added_sums
from fourbit_onnx.runtime.trainer import Trainer

SIGNATURE = "(float[N,3] a, float[N,3] b, float[3] c, float q, float r, double[3] d) => (float[N,3] y)"
SHAPES = {"w": (4, 3), "b": (4,), "c": (1, 4)}


@pytest.mark.parametrize(
    ("sums", "additions"),
    [
        ("y = Sum (a, b)", "y = Add (a, b)"),
        ("y = Sum (a, b, c)", "y_of2 = Add (a, b) y = Add (y_of2, c)"),
        ("y = Sum (c, a, a, b)", "y_of2 = Add (c, a) y_of3 = Add (y_of2, a) y = Add (y_of3, b)"),
    ],
)
def test_a_sum_is_written_as_additions(sums, additions):
    g = graph(SIGNATURE, sums, infer=True)
    assert added_sums(g) == 1
    assert text(g) == text(graph(SIGNATURE, additions))
    assert added_sums(g) == 0


@pytest.mark.parametrize(
    "sums",
    [
        "y = Sum (a)",
        "y = Sum (q, r)",
        "y = Sum (a, r)",
        "y = Sum (d, d)",
        "h = other.Use (a) y = Sum (a, h)",
        "y = other.Sum (a, b)",
    ],
)
def test_what_is_left_alone(sums):
    g = graph(SIGNATURE, sums, infer=True)
    before = text(g)
    assert added_sums(g) == 0
    assert text(g) == before


def test_what_the_first_additions_give_may_be_smaller(tmp_path):
    """Operands of other shapes, before the first weight: a valid graph, the numbers of the Sum."""
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    body = "z = Sum (b, b, c, x) y = MatMul (z, w) q = Mul (y, y) loss = ReduceMean <keepdims = 0> (q)"
    proto = model("(float[N,4] x) => (float loss)", body, values)
    convert(proto, tmp_path / "out", loss="output", recipe="fp32", freeze=["b", "c"])
    training = onnx.load(tmp_path / "out" / TRAINING_MODEL)
    assert [node.op_type for node in training.graph.node].count("Sum") == 0
    x = rng.standard_normal((5, 4)).astype(np.float32)
    z = values["b"] + values["b"] + values["c"] + x
    exact = np.square(z.astype(np.float64) @ values["w"].astype(np.float64)).mean()
    loss = Trainer(tmp_path / "out", threads=1).step({"x": x}, learning_rate=0.1)["loss"]
    # 15 squares of sums of 4 products: at most about 2 * (4 + 1) + 15 + 1 roundings
    assert abs(loss - exact) <= 26 * 2.0**-24 * np.square(np.abs(z) @ np.abs(values["w"])).mean()


@pytest.fixture(params=["fp32", "fp16", "ibm2020"])
def pair(request, monkeypatch):
    """The graphs of a Transformer, as they are and as they would be."""
    return with_and_without(monkeypatch, "added_sums", small_transformer(), request.param)


def operators(model, op):
    return sum(node.op_type == op and not node.domain for node in model.graph.node)


def test_all_training_graphs_have_additions(pair):
    """The baselines, too: this is not about four bits."""
    found, without = (made.training for made in pair)
    # In each of two layers: one of three (readers of an attention's input), two of two (ways round a branch).
    assert (operators(found, "Sum"), operators(without, "Sum")) == (0, 6)
    assert operators(found, "Add") == operators(without, "Add") + 2 * (2 + 1 + 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_has_the_same_bits(pair, threads):
    assert_same_step(*pair, sentences(), threads=threads)
