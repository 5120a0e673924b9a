"""Sizes that a model computes: what is said of them holds, and what is said of real exports is exact."""

import math
import time
import tracemalloc

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graphs import model, run

from fourbit_onnx.passes.computed_shapes import computed_shapes, expanded, reshaped
from fourbit_onnx.passes.sizes import Size
from fourbit_onnx.passes.standardize import standardize

SIZES = {"batch": 3, "time": 5}
NUMBERS = {
    **{f"n{value}": np.array([value]) for value in (0, 1, 2, 3, 4, 8)},
    **{f"s{value}": np.array(value) for value in (0, 1, 2, 3, 4)},
    "rest": np.array([-1]),
    "end": np.array([2**63 - 1]),
    "none": np.array([-1, 4, -1, 8]),
    "big": np.array([2**40]),
    "minus_five": np.array([-5]),
    "half": np.array(0.5, np.float32),
}
HEAD = """
    s = Shape (x) b = Gather (s, s0) t = Gather (s, s1) d = Gather (s, s2)
    ub = Unsqueeze (b, n0) ut = Unsqueeze (t, n0) ud = Unsqueeze (d, n0)
"""
# What is computed of x, float[batch,time,8], and the shape of y that is known of it.
BODIES = {
    "Mul, Div": (
        "h = Div (d, s2) m = Mul (b, s2) uh = Unsqueeze (h, n0) um = Unsqueeze (m, n0)"
        "to = Concat <axis = 0> (um, ut, uh) y = Reshape (x, to)",
        ["2*batch", "time", 4],
    ),
    "Mod": (
        "a = Add (s3, s1) c = Sub (a, s2) k = Mod (c, s2) c4 = Mul (d, s4) k4 = Mod (c4, s3)"
        "uk = Unsqueeze (k, n0) uk4 = Unsqueeze (k4, n0) e = Add (uk, n4) f = Add (uk4, n0)"
        "to = Concat <axis = 0> (ub, ut, f, e) y = Reshape (x, to)",
        ["batch", "time", 2, 4],
    ),
    "-1 beside a name": (
        "to = Concat <axis = 0> (ub, n2, rest) y = Reshape (x, to)",
        ["batch", 2, "4*time"],
    ),
    "-1 for a product": ("to = Concat <axis = 0> (rest, ud) y = Reshape (x, to)", ["batch*time", 8]),
    "an unknown size is what is left": (
        "f = Cast <to = 1> (t) g = Cast <to = 7> (f) ug = Unsqueeze (g, n0)"
        "to = Concat <axis = 0> (ub, ug, n2, n4) y = Reshape (x, to)",
        ["batch", "time", 2, 4],
    ),
    "0 copies": ("to = Concat <axis = 0> (n0, rest) y = Reshape (x, to)", ["batch", "8*time"]),
    "Shape with start and end": (
        "p = Shape <start = -3, end = 2> (x) q = Shape <start = 2> (x)"
        "r = ReduceProd <keepdims = 1> (q) to = Concat <axis = 0> (p, n2, n4) y = Reshape (x, to)",
        ["batch", "time", 2, 4],
    ),
    "Slice": (
        "p = Slice (s, n0, n2) q = Slice (s, rest, end, n0, n1) z = Slice (s, end, minus_five, n0, rest)"
        "w = Concat <axis = 0> (p, n1, q) i = Identity (w) y = Reshape (x, i)",
        ["batch", "time", 1, 8],
    ),
    "Squeeze, Reshape": (
        "p = Slice (s, n1, n2) q = Squeeze (p, n0) r = Reshape (q, rest) "
        "to = Concat <axis = 0> (ub, r, n4, n2) y = Reshape (x, to)",
        ["batch", "time", 4, 2],
    ),
    "Size": (
        "c = Size (x) e = Div (c, d) g = Reshape (e, rest) to = Concat <axis = 0> (g, n8)"
        " y = Reshape (x, to)",
        ["batch*time", 8],
    ),
    "Expand as PyTorch writes it": (
        "c = Concat <axis = 0> (ub, n4, ut, n8) r = Shape (c) o = ConstantOfShape <value = int64[1] {1}> (r)"
        "m = Mul (o, rest) e = Equal (none, m) w = Where (e, o, none) u = Unsqueeze (x, n1)"
        "y = Expand (u, w)",
        ["batch", 4, "time", 8],
    ),
    "Expand": ("c = Concat <axis = 0> (n2, n1, ut, ud) y = Expand (x, c)", [2, "batch", "time", 8]),
    "Tile": ("c = Concat <axis = 0> (n1, n4, n2) y = Tile (x, c)", ["batch", "4*time", 16]),
    "ConstantOfShape": (
        "c = Concat <axis = 0> (ub, n4) o = ConstantOfShape (c) m = ReduceMax <keepdims = 0> (x)"
        "y = Mul (o, m)",
        ["batch", 4],
    ),
    "no axes": ("p = Slice (s, n0, n0) m = ReduceMax <keepdims = 0> (x) y = Reshape (m, p)", []),
    "through products": (
        "m = Mul (t, s2) um = Unsqueeze (m, n0) to = Concat <axis = 0> (ub, um, n4) a = Reshape (x, to)"
        "b2 = Transpose <perm = [0, 2, 1]> (a) p = MatMul (a, b2) q = Softmax (p) r = MatMul (q, a)"
        "k = Shape (r) l = Gather (k, s1) l2 = Div (l, s2) ul = Unsqueeze (l2, n0)"
        "back = Concat <axis = 0> (ub, ul, n8) y = Reshape (r, back)",
        ["batch", "time", 8],
    ),
}  # fmt: skip
# Nothing certain can be said of the first axis.
OPEN = {
    "a sum": "a = Add (b, t) k = Sub (a, t)",
    "the smaller one": "k = Min (b, t)",
    "a half": "k = Div (b, s2)",
    "a condition": "e = Equal (b, s3) k = Where (e, s1, s4)",
    "equal if they are 0": "m = Mul (b, s2) e = Equal (b, m) k = Where (e, s1, s4)",
    "of floats": "f = Cast <to = 1> (b) h = Mul (f, half) k = Cast <to = 7> (h)",
}


def inferred(body, signature="(float[batch,time,8] x) => (float y)"):
    proto = model(signature, HEAD + body, NUMBERS)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto = onnx.shape_inference.infer_shapes(proto)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    # As if nothing were known but the rank: what is closed is found here, not by ONNX's inference.
    for value in proto.graph.value_info:
        for size in value.type.tensor_type.shape.dim:
            if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
                size.Clear()
    before = proto.SerializeToString()
    proto.graph.value_info.add().CopyFrom(proto.graph.output[0])  # so that an open size is there in any case
    proto.graph.value_info[-1].name = "open"
    computed_shapes(proto)
    return proto, before


def shape(proto, name="y"):
    found = next(value for value in [*proto.graph.output, *proto.graph.value_info] if value.name == name)
    assert found.type.tensor_type.HasField("shape")
    return [
        size.dim_value if size.HasField("dim_value") else size.dim_param
        for size in found.type.tensor_type.shape.dim
    ]


def value(size, sizes):
    """The number that a size is."""
    read = Size.read(size)
    return read.factor * math.prod(sizes[name] for name in read.names)


@pytest.mark.parametrize("body", BODIES)
def test_what_is_followed(body):
    body, expected = BODIES[body]
    proto, before = inferred(body)
    assert shape(proto) == expected
    x = np.zeros((SIZES["batch"], SIZES["time"], 8), np.float32)
    result = run(onnx.load_from_string(before), {"x": x})["y"]
    assert result.shape == tuple(value(size, SIZES) for size in expected)


@pytest.mark.parametrize("body", OPEN)
def test_what_is_not_certain_stays_open(body):
    proto, before = inferred(
        f"{OPEN[body]} uk = Unsqueeze (k, n0) to = Concat <axis = 0> (uk, ut) o = ConstantOfShape (to)"
        "y = Add (o, half)"
    )
    assert not shape(proto)[0]
    run(onnx.load_from_string(before), {"x": np.zeros((3, 5, 8), np.float32)})  # it is a model that runs


@pytest.mark.parametrize(
    ("shape", "to", "copied", "result"),
    [
        (["a", 8], [2, -1], True, [2, "4*a"]),
        (["a", 8], [3, -1], True, [3, None]),
        (["a", 8], [0, -1], True, ["a", 8]),
        (["a", 0], [0, -1], False, [0, None]),
        (["a", 8], ["a", None, 2], True, ["a", 4, 2]),
        (["a", 8], [None, None, 2], True, [None, None, 2]),
        (["a", None], ["a", -1], True, ["a", None]),
        (None, ["a", -1, 0], True, ["a", None, None]),
        (["a"], ["a", 0], True, ["a", 1]),
    ],
)
def test_reshaped(shape, to, copied, result):
    def read(sizes):
        return sizes and [Size(size) if isinstance(size, int) else Size.read(size) for size in sizes]

    assert reshaped(read(shape), read(to), copied=copied) == read(result)


def test_expanded():
    assert expanded([Size(1), None, Size(8)], [Size(2), Size(3), Size(4), Size(1)]) == [
        Size(2), Size(3), Size(4), Size(8),
    ]  # fmt: skip


# A file may ask for anything: none of these takes memory, and no shape is wrong.
SQUARES = " ".join(f"p{i} = Mul (p{i - 1}, p{i - 1})" for i in range(1, 60))
ONES = "ConstantOfShape <value = int64[1] {1}>"
HOSTILE = {
    "a large constant": f"o = {ONES} (big) k = Gather (o, n0)",
    "a large row of sizes": "o = Expand (n1, big) k = Gather (o, n0)",
    "many axes": f"o = {ONES} (n8) p = Concat <axis = 0> (o, o) q = {ONES} (p) k = Reshape (q, n1)",
    "a negative size": f"o = {ONES} (minus_five) k = Identity (n1)",
    "division by 0": "o = Div (n4, n0) k = Identity (n1)",
    "no such element": "o = Gather (s, n8) k = Identity (n1)",
    "no such axis": "o = Unsqueeze (s, n8) k = Identity (n1)",
    "a step of 0": "o = Slice (s, n0, n1, n0, n0) k = Identity (n1)",
    "shapes that do not fit": "o = Reshape (s, n2) k = Identity (n1)",
    "powers of a name": f"p0 = Mul (ub, ub) {SQUARES} k = Identity (n1)",
    "powers of a number": f"p0 = Mul (big, n4) {SQUARES} k = Identity (n1)",
    "a large tensor": "to2 = Concat <axis = 0> (ub, big) p = ConstantOfShape (to2) k = Identity (n1)",
}


@pytest.mark.parametrize("body", HOSTILE)
def test_hostile_files_take_no_memory(body):
    tracemalloc.start()
    try:
        proto, _ = inferred(f"{HOSTILE[body]} to = Concat <axis = 0> (k, ub, ut, ud) y = Reshape (x, to)")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert shape(proto)[-3:] == ["batch", "time", 8]


@pytest.mark.parametrize(
    "body", ["y = Expand (x, t)", "y = Tile (x, n2)", "y = ConstantOfShape (minus_five)"]
)
def test_what_does_not_fit_stays_open(body):
    proto, _ = inferred(body)
    assert gs.import_onnx(proto).outputs[0].shape in (None, [None])


def test_a_large_row_of_numbers_is_not_stored():
    """A millisecond; ONNX's propagation of data took 2 seconds and 2.6 GiB to note each of these numbers."""
    body = """
        one = Constant <value_ints = [1]> () size = Constant <value_ints = [33554432]> ()
        row = Expand (one, size) zero = Constant <value_int = 0> () k = Gather (row, zero)
        f = Cast <to = 1> (k) y = Mul (x, f)
    """
    proto = model("(float[N,4] x) => (float[N,4] y)", body)
    before = time.perf_counter()
    assert [node.op for node in standardize(proto).nodes] == ["Expand", "Gather", "Cast", "Mul"]
    assert time.perf_counter() - before < 1


def test_names_that_inference_made_up_are_replaced():
    body = "c = Concat <axis = 0> (n1, n4, n2) h = Tile (x, c) y = Relu (h)"
    proto = model("(float[batch,time,8] x) => (float y)", HEAD + body, NUMBERS)
    proto = onnx.shape_inference.infer_shapes(proto)
    assert all(size.startswith("unk__") for size in shape(proto, "h"))
    computed_shapes(proto)
    assert shape(proto, "h") == ["batch", "4*time", 16]


@pytest.mark.parametrize("declared", [["unk__1", 8], ["rows", "unk__0", 8]])
def test_what_the_model_says_stays(declared):
    """Also what does not fit, as two axes here: that is for ONNX Runtime to say."""
    signature = f"(float[batch,time,8] x) => (float[{','.join(map(str, declared))}] y)"
    proto = model(signature, HEAD + "to = Concat <axis = 0> (ub, ut, ud) y = Reshape (x, to)", NUMBERS)
    computed_shapes(proto)
    assert shape(proto) == [{"unk__0": "time"}.get(size, size) for size in declared]


def test_weights_are_not_given_to_the_inference_of_a_node(monkeypatch):
    """It would copy them for every node that reads them."""
    given, infer = [], onnx.shape_inference.infer_node_outputs

    def noted(schema, node, types, data, **others):
        given.extend(data.values())
        return infer(schema, node, types, data, **others)

    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", noted)
    proto = model(
        "(float[batch,8] x) => (float y)",
        "h = MatMul (x, w) y = Clip (h, least)",
        {"w": np.zeros((8, 9), np.float32), "least": np.float32(0)},
    )
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    proto.graph.value_info.add().CopyFrom(proto.graph.output[0])
    proto.graph.value_info[0].name = "h"
    computed_shapes(proto)
    assert shape(proto) == ["batch", 9]
    assert [tensor.name for tensor in given] == ["least"]


def test_nothing_is_touched_where_nothing_is_open():
    proto = onnx.shape_inference.infer_shapes(
        model("(float[batch,8] x) => (float[batch,8] y)", "a = Relu (x) y = Relu (a)")
    )
    before = proto.SerializeToString()
    computed_shapes(proto)
    assert proto.SerializeToString() == before


def test_branches_and_other_domains_are_left_alone():
    body = """
        u = other.Op (x) k = Shape (u) c = Cast <to = 9> (s1)
        w = If (c) <
            then_branch = g () => (float h) { h = Relu (x) }, else_branch = g () => (float h) { h = Neg (x) }
        > y = Reshape (w, k)
    """
    proto, _ = inferred(body)
    assert gs.import_onnx(proto).outputs[0].shape is None


def test_an_operator_of_another_domain_is_not_followed():
    proto, _ = inferred("k = other.Identity (s) y = Reshape (x, k)")
    assert gs.import_onnx(proto).outputs[0].shape in (None, [None] * 3)
