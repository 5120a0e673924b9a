"""GELU and its gradient without a function of the C library, so that they have the same bits everywhere.

The formulas, their coefficients and what they are worth are in ``ops/reference/gelu.py``.
"""

from fourbit_onnx.ops.odd_ratio import constant, odd_ratio
from fourbit_onnx.ops.reference.gelu import CDF, SLOPE
from fourbit_onnx.ops.text import function

_HALF = constant("half", 0.5)

GELU = function(f"""
Gelu (x) => (y) {{
    {odd_ratio(CDF, "x", "odd")}
    {_HALF}
    value = Add (half, odd)
    y = Mul (odd_bounded, value)
}}
""")

GELU_GRAD = function(f"""
GeluGrad (dy, x) => (dx) {{
    {odd_ratio(SLOPE, "x", "odd")}
    {_HALF}
    value = Add (half, odd)
    dx = Mul (dy, value)
}}
""")
