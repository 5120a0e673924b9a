"""One step of an LSTM behind its products, and its gradient, without a function of the C library.

The formulas, the coefficients of tanh and what it is worth are in ``ops/reference/lstm_cell.py``.
"""

from fourbit_onnx.ops.odd_ratio import constant, odd_ratio
from fourbit_onnx.ops.reference.lstm_cell import TANH
from fourbit_onnx.ops.text import function

_CONSTANTS = f"""
    {constant("half", 0.5)}
    {constant("one", 1.0)}
    {constant("minus_one", -1.0)}
"""


def _tanh(x: str, result: str) -> str:
    return f"""
    {odd_ratio(TANH, x, f"{result}_odd")}
    {result}_too_low = Less ({result}_odd, minus_one)
    {result}_low = Where ({result}_too_low, minus_one, {result}_odd)
    {result}_too_high = Greater ({result}_low, one)
    {result} = Where ({result}_too_high, one, {result}_low)
"""


LSTM_CELL = function(f"""
LstmCell <step : int = 0, steps : int = 1> (p, y, c) => (h, new_c, gates) {{
    {_CONSTANTS}
    zeroth = Constant <value = int64[1] {{0}}> ()
    first = Constant <value = int64[1] {{1}}> ()
    number = Constant <value_int : int = @step> ()
    count = Constant <value_int : int = @steps> ()
    p_shape = Shape (p)
    rows = Slice (p_shape, zeroth, first)
    each = Div (rows, count)
    begin = Mul (each, number)
    end = Add (begin, each)
    p_step = Slice (p, begin, end, zeroth)
    sums = Add (p_step, y)
    i_sum, o_sum, f_sum, candidate = Split <axis = -1, num_outputs = 4> (sums)
    i_half = Mul (half, i_sum)
    o_half = Mul (half, o_sum)
    f_half = Mul (half, f_sum)
    halves = Concat <axis = -1> (i_half, o_half, f_half, candidate)
    {_tanh("halves", "opened")}
    i_tanh, o_tanh, f_tanh, g = Split <axis = -1, num_outputs = 4> (opened)
    i_part = Mul (half, i_tanh)
    o_part = Mul (half, o_tanh)
    f_part = Mul (half, f_tanh)
    i = Add (half, i_part)
    o = Add (half, o_part)
    f = Add (half, f_part)
    kept = Mul (f, c)
    new = Mul (i, g)
    new_c = Add (kept, new)
    {_tanh("new_c", "out")}
    h = Mul (o, out)
    gates = Concat <axis = -1> (i, o, f, g)
}}
""")

LSTM_CELL_GRAD = function(f"""
LstmCellGrad (dh, more_dh, dc, gates, c, new_c) => (dsums, previous_dc) {{
    {_CONSTANTS}
    i, o, f, g = Split <axis = -1, num_outputs = 4> (gates)
    {_tanh("new_c", "out")}
    d = Add (dh, more_dh)
    d_o = Mul (d, o)
    out_square = Mul (out, out)
    out_slope = Sub (one, out_square)
    through_out = Mul (d_o, out_slope)
    dn = Add (dc, through_out)
    i_shut = Sub (one, i)
    o_shut = Sub (one, o)
    f_shut = Sub (one, f)
    i_slope = Mul (i, i_shut)
    o_slope = Mul (o, o_shut)
    f_slope = Mul (f, f_shut)
    g_square = Mul (g, g)
    g_slope = Sub (one, g_square)
    i_grad = Mul (dn, g)
    o_grad = Mul (d, out)
    f_grad = Mul (dn, c)
    g_grad = Mul (dn, i)
    di = Mul (i_grad, i_slope)
    do = Mul (o_grad, o_slope)
    df = Mul (f_grad, f_slope)
    dg = Mul (g_grad, g_slope)
    dsums = Concat <axis = -1> (di, do, df, dg)
    previous_dc = Mul (dn, f)
}}
""")
