"""What a model computes of sizes, one operator at a time, against ONNX's reference."""

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from fourbit_onnx.passes.computed_numbers import LARGEST, OPERATORS, computed, stored, unknown, whole
from fourbit_onnx.passes.sizes import Size

ROW = np.array([2, 3, 16, 8])
TABLE = np.arange(12).reshape(3, 4)
ONES = numpy_helper.from_array(np.array([7]))
CASES = [
    ("Add", [ROW, np.array(5)], {}),
    ("Sub", [TABLE, np.array([[9], [1], [0]])], {}),
    ("Mul", [ROW, ROW], {}),
    ("Div", [ROW, np.array([3])], {}),
    ("Mod", [np.array([-7, 7, 8]), np.array([3, 3, 4])], {}),
    ("Equal", [ROW, np.array([2, 4, 16, -1])], {}),
    ("Where", [np.array([1, 0, 1, 0]), ROW, np.array(-1)], {}),
    ("Cast", [ROW], {"to": TensorProto.INT64}),
    ("Identity", [TABLE], {}),
    ("Concat", [TABLE, TABLE], {"axis": -1}),
    ("Concat", [ROW, ROW[:1], ROW[:0]], {"axis": 0}),
    ("ConstantOfShape", [np.array([2, 3])], {"value": ONES}),
    ("ConstantOfShape", [np.array([], np.int64)], {"value": ONES}),
    ("Expand", [ROW, np.array([3, 1])], {}),
    ("Gather", [ROW, np.array(-1)], {}),
    ("Gather", [TABLE, np.array([[2, 0]])], {"axis": 1}),
    ("Gather", [TABLE, np.array(1)], {}),
    ("Reshape", [TABLE, np.array([2, -1])], {}),
    ("Reshape", [TABLE, np.array([0, 2, 2])], {}),
    ("Reshape", [np.array(5), np.array([1])], {}),
    ("Reshape", [np.zeros((0, 3)), np.array([3, 0])], {"allowzero": 1}),
    ("Slice", [ROW, np.array([1]), np.array([2**63 - 1])], {}),
    ("Slice", [TABLE, np.array([-1, 0]), np.array([-(2**63), 3]), np.array([1, 0]), np.array([-2, 2])], {}),
    ("Squeeze", [ROW[None, :, None], np.array([0, -1])], {}),
    ("Squeeze", [ROW[None, :, None]], {}),
    ("Unsqueeze", [ROW, np.array([0, 2])], {}),
]


def objects(values):
    return stored(numpy_helper.from_array(np.asarray(values, np.int64)))


def computed_by(op, operands, attributes, shape=None):
    node = helper.make_node(op, [f"i{place}" for place in range(len(operands))], ["o"], **attributes)
    return computed(node, operands, shape)


def reference(op, operands, attributes):
    node = helper.make_node(op, [f"i{place}" for place in range(len(operands))], ["o"], **attributes)
    feeds = {f"i{place}": np.asarray(operand) for place, operand in enumerate(operands)}
    if op == "Where":
        feeds["i0"] = feeds["i0"].astype(bool)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    graph = helper.make_graph([node], "g", inputs, [helper.make_empty_tensor_value_info("o")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    return ReferenceEvaluator(proto).run(None, feeds)[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_numbers_are_those_of_the_reference(case):
    op, operands, attributes = case
    found = whole(computed_by(op, [objects(operand) for operand in operands], attributes))
    np.testing.assert_array_equal(found, reference(op, operands, attributes).astype(np.int64), strict=True)


def test_every_operator_has_a_case():
    assert {op for op, *_ in CASES} | {"Shape", "Size"} == OPERATORS


BATCH = Size(1, ("batch",))
SHAPE = [BATCH, Size(4), None]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, SHAPE),
        ({"start": 1}, SHAPE[1:]),
        ({"end": -1}, SHAPE[:2]),
        ({"start": -9, "end": 9}, SHAPE),
        ({"start": 2, "end": 1}, []),
    ],
)
def test_shape(attributes, expected):
    assert computed_by("Shape", [None], attributes, SHAPE).tolist() == expected


def test_size():
    assert computed_by("Size", [None], {}, SHAPE[:2]).item() == Size(4, ("batch",))
    assert computed_by("Size", [None], {}, SHAPE).item() is None
    assert computed_by("Size", [None], {}) is None


def test_what_is_not_known_of_a_row_leaves_the_rest_known():
    row = computed_by("Shape", [None], {}, SHAPE)
    assert computed_by("Mul", [row, objects([2, 2, 2])], {}).tolist() == [
        Size(2, ("batch",)), Size(8), None,
    ]  # fmt: skip
    assert computed_by("Where", [objects([1, 0, 0]), objects([5, 5, 5]), row], {}).tolist() == [
        Size(5), Size(4), None,
    ]  # fmt: skip
    # A size may be 3, or 0, but never -1; where the condition is open, both must be the same.
    assert computed_by("Equal", [row, objects([-1, -1, -1])], {}).tolist() == [Size(0), Size(0), None]
    assert computed_by("Equal", [row, objects([3, 4, 3])], {}).tolist() == [None, Size(1), None]
    assert computed_by("Equal", [row, objects([0, 0, 0])], {}).tolist() == [None, Size(0), None]
    assert computed_by("Where", [row, objects([6, 6, 6]), objects([6, 6, 7])], {}).tolist() == [
        Size(6), Size(6), None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "operands", "attributes"),
    [
        ("Gather", [[1, 2], [5]], {}),
        ("Unsqueeze", [[1, 2], [5]], {}),
        ("Unsqueeze", [[1, 2], [2**40]], {}),
        ("Expand", [[1], 2], {}),
        ("Reshape", [[1, 2], [3]], {}),
        ("Add", [[1, 2], [1, 2, 3]], {}),
        ("Slice", [[1, 2], [0], [1], [0], [0]], {}),
        ("Concat", [[1, 2], [3]], {}),
        ("Mod", [[7], [3]], {"fmod": 1}),
        ("Cast", [[7]], {"to": TensorProto.INT32}),
        ("ConstantOfShape", [[LARGEST + 1]], {"value": ONES}),
        ("ConstantOfShape", [[2]], {}),
        ("Expand", [[1], [2**40]], {}),
        ("Expand", [[1], [1] * 60], {}),
        ("ConstantOfShape", [[1] * 60], {"value": ONES}),
        ("Reshape", [[1], [1] * 60], {}),
        ("Unsqueeze", [[1], list(range(60))], {}),
        ("Add", [[[1]] * LARGEST, [1, 2]], {}),
        ("Concat", [[1] * 40, [1] * 40], {"axis": 0}),
        ("Range", [[0], [3], [1]], {}),
    ],
)
def test_what_is_not_followed(op, operands, attributes):
    assert computed_by(op, [objects(operand) for operand in operands], attributes) is None


def test_what_an_operand_leaves_open():
    for op, operands in (("Concat", [objects([1]), None]), ("Gather", [objects([1]), None])):
        assert computed_by(op, operands, {"axis": 0}) is None
    assert computed_by("Gather", [objects([1, 2]), computed_by("Shape", [None], {}, [BATCH])], {}) is None


def test_what_would_be_long_is_not_computed():
    """A condition and two operands of 64 elements each, on axes of their own, would give 2**18 elements."""
    operands = [objects(np.ones(shape)) for shape in ((64, 1, 1), (64, 1), (64,))]
    tracemalloc.start()
    try:
        assert computed_by("Where", operands, {}) is None
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint8])
def test_only_int64_is_a_number(dtype):
    assert stored(numpy_helper.from_array(np.array([1], dtype))) is None


def test_long_constants_are_not_read():
    assert stored(numpy_helper.from_array(np.zeros(LARGEST, np.int64))).size == LARGEST
    assert stored(onnx.TensorProto(data_type=TensorProto.INT64, dims=[2**40])) is None
    assert stored(onnx.TensorProto(data_type=TensorProto.INT64, dims=[1] * 60)) is None


@pytest.mark.parametrize(
    ("shape", "result"),
    [
        ([], ()),
        ([Size(2), Size(3)], (2, 3)),
        ([BATCH], None),
        ([None], None),
        (None, None),
        ([Size(LARGEST + 1)], None),
        ([Size(2**40), Size(0)], None),
        ([Size(1)] * 100, None),
    ],
)
def test_unknown(shape, result):
    found = unknown(shape)
    assert (found if found is None else found.shape) == result
