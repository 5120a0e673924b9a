"""The gradient of Gather: rows of ``dy`` added where they were taken from, in the order of the indices.

    dx = 0;  for i = 0, 1, ...:  dx[..., indices[i], ...] = dx[..., indices[i], ...] + dy[..., i, ...]

``indices`` counts as one axis, in the order of its elements; a negative one counts from the end. ONNX
leaves the order of ScatterElements' additions open. ONNX Runtime's is this one; its GatherGrad has another
in every run.
"""

from fourbit_onnx.ops.text import function

GATHER_GRAD = function("""
GatherGrad <axis : int = 0> (shape, indices, dy) => (dx) {
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    end = Constant <value = int64[1] {9223372036854775807}> ()
    axis_number = Constant <value_int : int = @axis> ()
    from_axis = Reshape (axis_number, one)
    behind_axis = Add (from_axis, one)
    before = Slice (shape, zero, from_axis)
    size = Slice (shape, from_axis, behind_axis)
    after = Slice (shape, behind_axis, end)
    before_or_one = Concat <axis = 0> (one, before)
    after_or_one = Concat <axis = 0> (one, after)
    outer = ReduceProd (before_or_one)
    inner = ReduceProd (after_or_one)
    index_count = Size (indices)
    count = Reshape (index_count, one)
    dy_shape = Concat <axis = 0> (outer, count, inner)
    dx_shape = Concat <axis = 0> (outer, size, inner)
    index_shape = Concat <axis = 0> (one, count, one)
    dy_rows = Reshape <allowzero = 1> (dy, dy_shape)
    index_column = Reshape <allowzero = 1> (indices, index_shape)
    places = Expand (index_column, dy_shape)
    nought = ConstantOfShape <value = float[1] {0}> (dx_shape)
    dx_rows = ScatterElements <axis = 1, reduction = "add"> (nought, places, dy_rows)
    dx = Reshape <allowzero = 1> (dx_rows, shape)
}
""")
