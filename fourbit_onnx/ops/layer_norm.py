"""LayerNormalization and its gradient, with sums whose order is stated.

A row has the n elements of the last axes, those of ``scale``. Everything is float32, rounded each time.

    mean = halves(x) / n,  var = halves((x - mean) * (x - mean)) / n
    inv_std = 1 / sqrt(var + epsilon)                                       float64, then rounded
    y = (x - mean) * inv_std * scale + bias

    xhat = (x - mean) * inv_std,  g = dy * scale
    dx = (g - halves(g) / n - xhat * (halves(g * xhat) / n)) * inv_std      of each row
    dscale = pairs(dy * xhat),  dbias = pairs(dy)                           of all rows

``halves`` and ``pairs`` are sums as trees: see ``ops/tree_sums.py``.

Inputs and outputs are those of ONNX's LayerNormalization and ONNX Runtime's LayerNormalizationGrad.
"""

from fourbit_onnx.ops.text import function, inverse_std
from fourbit_onnx.ops.tree_sums import CONSTANTS, halves, pairs

_CONSTANTS = f"""
    {CONSTANTS}
    minus_one = Constant <value = int64[1] {{-1}}> ()
    x_shape = Shape (x)
    scale_shape = Shape (scale)
    size = Size (scale)
    n = Cast <to = 1> (size)
    size_column = Reshape (size, one)
    matrix = Concat <axis = 0> (minus_one, size_column)
    column = Constant <value = int64[2] {{-1, 1}}> ()
    row = Constant <value = int64[2] {{1, -1}}> ()
    x_rows = Reshape (x, matrix)
    scale_row = Reshape (scale, row)
"""

LAYER_NORM = function(f"""
LayerNorm <epsilon : float = 0.00001> (x, scale, bias) => (y, mean, inv_std) {{
    {_CONSTANTS}
    bias_row = Reshape (bias, row)
    {halves("x_sum", "x_rows")}
    mean_column = Div (x_sum, n)
    centred = Sub (x_rows, mean_column)
    square = Mul (centred, centred)
    {halves("square_sum", "square")}
    var = Div (square_sum, n)
    var_double = Cast <to = 11> (var)
    {inverse_std("inv_std_column")}
    xhat = Mul (centred, inv_std_column)
    scaled = Mul (xhat, scale_row)
    y_rows = Add (scaled, bias_row)
    y = Reshape (y_rows, x_shape)

    x_rank = Size (x_shape)
    axis_count = Size (scale_shape)
    row_axes = Sub (x_rank, axis_count)
    row_axes_vector = Reshape (row_axes, one)
    axis_count_vector = Reshape (axis_count, one)
    row_shape = Slice (x_shape, zero, row_axes_vector)
    ones = Expand (one, axis_count_vector)
    statistics_shape = Concat <axis = 0> (row_shape, ones)
    mean = Reshape (mean_column, statistics_shape)
    inv_std = Reshape (inv_std_column, statistics_shape)
}}
""")

LAYER_NORM_GRAD = function(f"""
LayerNormGrad (dy, x, scale, mean, inv_std) => (dx, dscale, dbias) {{
    {_CONSTANTS}
    dy_rows = Reshape (dy, matrix)
    mean_column = Reshape (mean, column)
    inv_std_column = Reshape (inv_std, column)

    centred = Sub (x_rows, mean_column)
    xhat = Mul (centred, inv_std_column)
    g = Mul (dy_rows, scale_row)
    g_xhat = Mul (g, xhat)
    {halves("g_sum", "g")}
    {halves("g_xhat_sum", "g_xhat")}
    g_mean = Div (g_sum, n)
    g_xhat_mean = Div (g_xhat_sum, n)
    without_mean = Sub (g, g_mean)
    along = Mul (xhat, g_xhat_mean)
    rest = Sub (without_mean, along)
    dx_rows = Mul (rest, inv_std_column)
    dx = Reshape (dx_rows, x_shape)

    dy_xhat = Mul (dy_rows, xhat)
    {pairs("dscale_row", "dy_xhat")}
    {pairs("dbias_row", "dy_rows")}
    dscale = Reshape (dscale_row, scale_shape)
    dbias = Reshape (dbias_row, scale_shape)
}}
""")
