"""Bytes from forward to backward: exact on graphs small enough to be counted by hand."""

import numpy as np
import onnx
import pytest

from fourbit_onnx import convert
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.harness.bench.stored_bytes import Stored, crossing, size, stored_bytes
from fourbit_onnx.models import registry
from fourbit_onnx.runtime.engine import Engine
from fourbit_onnx.runtime.session import value

node = onnx.helper.make_node


def manifest(**changes):
    fields = {
        "recipe": "fp32", "loss": "output", "optimizer": "sgd", "inputs": ["x"], "targets": [], "outputs": [],
        "metrics": {}, "parameters": ["w"], "gradients": {}, "updates": {}, "moments": {},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


def graph(*nodes):
    return onnx.helper.make_graph(nodes, "training", [], [])


FORWARD = [
    node("Cast", ["w"], ["w.codes"], to=onnx.TensorProto.INT8),
    node("Mul", ["x", "w.codes"], ["a"]),
    node("Reshape", ["a", "shape"], ["b"]),
    node("Relu", ["b"], ["c"]),
    node("ReduceMean", ["c"], ["loss"]),
]


def test_what_only_the_forward_part_reads_is_not_stored():
    found = crossing(graph(*FORWARD, node("Mul", ["c", "c"], ["w.grad"])), manifest())
    assert (found.activations, found.parameters, found.data) == (["c"], [], [])


@pytest.mark.parametrize("view", ["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"])
def test_a_tensor_is_stored_once_and_a_view_is_its_tensor(view):
    forward = [node(view, ["a"], ["b"]) if one.op_type == "Reshape" else one for one in FORWARD]
    backward = [node("Mul", ["a", "b"], ["d"]), node("Mul", ["d", "b"], ["w.grad"])]
    assert crossing(graph(*forward, *backward), manifest()).activations == ["a"]


def test_parameters_and_data_are_apart():
    backward = [node("Mul", ["x", "w.codes"], ["d"]), node("Mul", ["d", "w"], ["w.grad"])]
    found = crossing(graph(*FORWARD, *backward), manifest())
    assert (found.activations, found.parameters, found.data) == ([], ["w.codes"], ["x"])


def test_what_the_backward_part_makes_is_its_own():
    backward = [node("Mul", ["c", "c"], ["d"]), node("Mul", ["d", "d"], ["w.grad"])]
    assert crossing(graph(*FORWARD, *backward), manifest()).activations == ["c"]


def test_metrics_and_running_statistics_are_of_the_forward_part():
    """Their nodes read c, and that alone keeps nothing."""
    nodes = [*FORWARD, node("ArgMax", ["c"], ["accuracy"]), node("Neg", ["c"], ["mean.new"])]
    assert crossing(graph(*nodes), manifest()).activations == ["c"]
    found = crossing(graph(*nodes), manifest(metrics={"accuracy": "accuracy"}, buffers={"mean": "mean.new"}))
    assert found.activations == []


def test_a_shape_keeps_its_numbers_and_not_the_tensor():
    backward = [node("Shape", ["c"], ["c.shape"]), node("Expand", ["w", "c.shape"], ["w.grad"])]
    found = crossing(graph(*FORWARD, *backward), manifest())
    assert (found.activations, found.data) == (["c.shape"], [])
    backward = [node("Shape", ["x"], ["x.shape"]), node("Expand", ["w", "x.shape"], ["w.grad"])]
    assert crossing(graph(*FORWARD, *backward), manifest()).data == []


def test_what_a_branch_reads_is_kept():
    branch = graph(node("Mul", ["c", "d"], ["e"]))
    backward = node("If", ["flag"], ["w.grad"], then_branch=branch, else_branch=branch)
    assert crossing(graph(*FORWARD, backward), manifest()).activations == ["c"]


@pytest.mark.parametrize(
    ("kind", "shape", "count"),
    [("uint4", [3, 5], 8), ("int4", [4], 2), ("int4", [0], 0), ("bool", [3], 3), ("float", [2, 3], 24),
     ("float", [], 4), ("float16", [5], 10), ("int64", [2], 16)],
)  # fmt: skip
def test_sizes(kind, shape, count):
    assert size(f"tensor({kind})", shape) == count


def stored(recipe, folder, batch):
    convert(registry.build("mlp", input_shape=(6,), classes=4, hidden=(10, 8), seed=0), folder, recipe=recipe)
    engine = Engine(folder, threads=1, native=True)
    arrays = dict(zip(engine.specs, batch, strict=True))
    engine.calibrate([arrays])
    return stored_bytes(folder, engine.now.values, arrays, threads=1)


BATCH = (np.ones((3, 6), np.float32), np.zeros(3, np.int64))


def test_a_network_in_float32(tmp_path):
    """Three layers: what the two ReLUs give, for ReluGrad and the products, and the log-probabilities."""
    expected = 4 * (3 * 10 + 3 * 8 + 3 * 4)
    assert stored("fp32", tmp_path / "out", BATCH) == Stored(expected, 0, 4 * 3 * 6 + 8 * 3)


def test_elements_of_four_bits_take_half_a_byte(tmp_path):
    """15 codes, two a byte, and their scale; the float that they are made from is not read again."""
    nodes = [
        node("ReduceMax", ["x"], ["scale"], keepdims=0),
        node("QuantizeLinear", ["x", "scale"], ["codes"], output_dtype=onnx.TensorProto.UINT4),
        node("DequantizeLinear", ["codes", "scale"], ["y"]),
        node("Mul", ["y", "w"], ["z"]),
        node("ReduceMean", ["z"], ["loss"], keepdims=0),
        node("DequantizeLinear", ["codes", "scale"], ["w.grad"]),
    ]
    info = onnx.helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    inputs = [info("x", kind, [3, 5]), info("w", kind, [])]
    outputs = [info("loss", kind, []), info("w.grad", kind, [3, 5])]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "training", inputs, outputs),
        opset_imports=[onnx.helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / files.TRAINING_MODEL)
    (tmp_path / files.MANIFEST).write_text(
        manifest(gradients={"w": "w.grad"}, updates={"w": "w.new"}).to_json()
    )
    batch = {"x": np.ones((3, 5), np.float32)}
    state = {"w": value(np.array(1, np.float32))}
    assert stored_bytes(tmp_path, state, batch, threads=1) == Stored(8 + 4, 0, 0)
