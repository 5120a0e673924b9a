"""INT4 codes in another order or place: nothing is computed.

DequantizeLinear and QuantizeLinear with scale 1 stand around what ONNX Runtime 1.19.2 cannot do with 4-bit
tensors; they hold codes exactly.
"""

from fourbit_onnx.ops.text import INT4, function

TRANSPOSE_CODES = function(f"""
TransposeCodes (x) => (y) {{
    unit = Constant <value = float {{1}}> ()
    rows = DequantizeLinear (x, unit)
    columns = Transpose <perm = [1, 0]> (rows)
    y = QuantizeLinear <output_dtype = {INT4}> (columns, unit)
}}
""")

JOIN_CODES = function(f"""
JoinCodes (a, b) => (y) {{
    unit = Constant <value = float {{1}}> ()
    a_rows = DequantizeLinear (a, unit)
    b_rows = DequantizeLinear (b, unit)
    rows = Concat <axis = 0> (a_rows, b_rows)
    y = QuantizeLinear <output_dtype = {INT4}> (rows, unit)
}}
""")
