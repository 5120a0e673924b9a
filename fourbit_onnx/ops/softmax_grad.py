"""The gradient of Softmax over the last axis: dx = y * (dy - halves(dy * y)) of each row, in float32.

``halves`` is a sum as a tree: see ``ops/tree_sums.py``. ``y`` is what the softmax gave: exp is not
computed again.
"""

from fourbit_onnx.ops.text import function
from fourbit_onnx.ops.tree_sums import CONSTANTS, halves

SOFTMAX_GRAD = function(f"""
SoftmaxGrad (dy, y) => (dx) {{
    {CONSTANTS}
    shape_of_y = Shape (y)
    dy_rows = Flatten <axis = -1> (dy)
    y_rows = Flatten <axis = -1> (y)
    terms = Mul (dy_rows, y_rows)
    {halves("along", "terms")}
    rest = Sub (dy_rows, along)
    dx_rows = Mul (y_rows, rest)
    dx = Reshape (dx_rows, shape_of_y)
}}
""")
