"""The sum of the rows of a tensor, by ``pairs`` (``ops/tree_sums.py``): the gradient of a bias.

A row has the axes from ``axis`` on, as in ONNX's Flatten; the sum has the shape of a row.
"""

from fourbit_onnx.ops.text import function
from fourbit_onnx.ops.tree_sums import CONSTANTS, pairs

SUM_ROWS = function(f"""
SumRows <axis : int = -1> (x) => (sum) {{
    {CONSTANTS}
    rows = Flatten <axis : int = @axis> (x)
    {pairs("sum_row", "rows")}
    x_shape = Shape (x)
    rank = Shape (x_shape)
    row_axis = Constant <value_int : int = @axis> ()
    row_start = Reshape (row_axis, one)
    row_shape = Slice (x_shape, row_start, rank)
    sum = Reshape (sum_row, row_shape)
}}
""")
