"""Parts of a split tensor are read without a sequence, and mean what they did."""

import numpy as np
import onnx
import pytest
from graphs import model, run

from fourbit_onnx.passes.sliced_sequences import sliced_sequences

X = np.arange(14, dtype=np.float32).reshape(2, 7)
VALUES = {"three": np.int64(3), "widths": np.array([2, 1, 4]), "first": np.int64(0), "last": np.int64(-1)}
SIGNATURE = "(float[2,7] x) => (y)"


def ops(proto):
    return [node.op_type for node in proto.graph.node if node.op_type != "Constant"]


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(
    ("sizes", "place", "expected"),
    [
        ("three", 0, X[:, :3]),
        ("three", 1, X[:, 3:6]),
        ("three", 2, X[:, 6:]),
        ("widths", 0, X[:, :2]),
        ("widths", 1, X[:, 2:3]),
        ("widths", -1, X[:, 3:]),
    ],
)
def test_the_same_part(sizes, place, expected, axis):
    body = (
        f"i = Constant <value_int = {place}> () s = SplitToSequence <axis = {axis}> (x, {sizes})"
        " [part] p = SequenceAt (s, i) y = Relu (p)"
    )
    proto = model(SIGNATURE, body, VALUES)
    before = proto.SerializeToString()
    sliced = sliced_sequences(proto)
    assert proto.SerializeToString() == before
    assert ops(sliced) == ["SplitToSequence", "Slice", "Relu"]
    assert [node.name for node in sliced.graph.node if node.op_type == "Slice"] == ["part"]
    np.testing.assert_array_equal(run(sliced, {"x": X})["y"], expected)
    inferred = onnx.shape_inference.infer_shapes(sliced, strict_mode=True, data_prop=True)
    shapes = {info.name: info.type.tensor_type.shape for info in inferred.graph.value_info}
    assert [size.dim_value for size in shapes["p"].dim] == list(expected.shape)


SIZES = {
    "of a Constant": "Constant <value = int64[3] {2, 1, 4}> ()",
    "of a list": "Constant <value_ints = [2, 1, 4]> ()",
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_sizes_of_a_node(sizes):
    """So PyTorch's newer exporter writes them, with ``optimize=False``."""
    body = f"n = {sizes} s = SplitToSequence <axis = 1> (x, n) y = SequenceAt (s, last)"
    sliced = sliced_sequences(model(SIGNATURE, body, VALUES))
    assert ops(sliced) == ["SplitToSequence", "Slice"]
    np.testing.assert_array_equal(run(sliced, {"x": X})["y"], X[:, 3:])


def test_the_first_axis_by_default_and_the_long_name_of_the_domain():
    body = "s = ai.onnx.SplitToSequence (x, one) y = ai.onnx.SequenceAt (s, first)"
    sliced = sliced_sequences(model(SIGNATURE, body, VALUES | {"one": np.int64(1)}))
    assert ops(sliced) == ["SplitToSequence", "Slice"]
    np.testing.assert_array_equal(run(sliced, {"x": X})["y"], X[:1])


LEFT_ALONE = {
    "from the end": "s = SplitToSequence <axis = 1> (x, three) y = SequenceAt (s, last)",
    "single elements": "s = SplitToSequence <axis = 1> (x) y = SequenceAt (s, first)",
    "computed sizes": "z = Shape (x) s = SplitToSequence <axis = 1> (x, z) y = SequenceAt (s, first)",
    "computed place": "n = Size (x) s = SplitToSequence <axis = 1> (x, three) y = SequenceAt (s, n)",
    "beyond the last": "i = Constant <value_int = 3> () s = SplitToSequence <axis = 1> (x, widths)"
    " y = SequenceAt (s, i)",
    "before the first": "i = Constant <value_int = -4> () s = SplitToSequence <axis = 1> (x, widths)"
    " y = SequenceAt (s, i)",
    "another domain": "s = other.SplitToSequence (x, three) y = SequenceAt (s, first)",
    "no sequence": "y = Relu (x)",
}


@pytest.mark.parametrize("body", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(body):
    proto = model(SIGNATURE, body, VALUES)
    assert sliced_sequences(proto) is proto
