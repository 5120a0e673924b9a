"""BatchNormalization in training, and its gradient, with sums that no order can change.

A channel has n elements: those of the batch and of all positions.

    q = 2**19 / max |x|,  u = rint(x * q)                      float32, |u| <= 2**19
    mean = sum(u) / n / q,  var = (sum(u * u) / n - (sum(u) / n)**2) / q**2
    inv_std = 1 / sqrt(var + epsilon)
    y = (x - mean) * (gamma * inv_std) + beta                  float32, each operation rounded

    xhat = (x - mean) * inv_std,  p = dy * xhat                float32
    dbeta = sum(dy),  dgamma = sum(p)                          in the same way, with 2**30 for 2**19
    dx = (dy - dbeta / n - xhat * (dgamma / n)) * (gamma * inv_std)

Sums are of integers, in int64: exact, so every order and number of threads gives the same bits. What follows
them is float64 arithmetic on single numbers. 2**19: the sum of squares of 2**24 elements is below 2**63; the
rounding is at most 2**-20 of the largest magnitude, an element, which is some 1e-5 of the standard deviation
before it is averaged, and adds 1/12 to a variance that is about 10**10 in these units. 2**30: sums of 2**24
elements are far from 2**63, and each is rounded as float32 rounds, or finer. q divides by at least 2**-90, so
that it is finite. NaN and infinity are refused; so are, by the kernel, channels of 2**24 elements or more.

Outputs and inputs are those of ONNX Runtime's BatchNormInternal and BatchNormalizationGrad; the running
variance is ONNX's, that of the biased variance.
"""

from fourbit_onnx.ops.text import function, inverse_std

# `{name}_q` and the int64 `{name}_u` of `{x}`, which has three dimensions; refuses NaN and infinity.
_INTEGERS = """
    {name}_magnitude = Abs ({x})
    {name}_finite = LessOrEqual ({name}_magnitude, largest)
    {name}_not_finite = Not ({name}_finite)
    {name}_bad = Cast <to = 1> ({name}_not_finite)
    {name}_worst = ReduceMax <keepdims = 0> ({name}_bad)
    {name}_any_bad = Cast <to = 7> ({name}_worst)
    {name}_of_channel = ReduceMax <keepdims = 0> ({name}_magnitude, axes)
    {name}_table = Unsqueeze ({name}_of_channel, first_axis)
    [{name}_has_nan_or_infinity] {name}_m = Gather ({name}_table, {name}_any_bad)
    {name}_divisor = Max ({name}_m, smallest)
    {name}_steps = Constant <value = float {{{steps}}}> ()
    {name}_q = Div ({name}_steps, {name}_divisor)
    {name}_q_column = Unsqueeze ({name}_q, last_axis)
    {name}_scaled = Mul ({x}, {name}_q_column)
    {name}_rounded = Round ({name}_scaled)
    {name}_u = Cast <to = 7> ({name}_rounded)
    {name}_q_double = Cast <to = 11> ({name}_q)
"""

_CONSTANTS = """
    rows = Constant <value = int64[3] {0, 0, -1}> ()
    axes = Constant <value = int64[2] {0, 2}> ()
    first_axis = Constant <value = int64[1] {0}> ()
    last_axis = Constant <value = int64[1] {1}> ()
    largest = Constant <value = float {3.4028235e38}> ()
    smallest = Constant <value = float {8.077935669463161e-28}> ()   # 2**-90
    shape = Shape (x)
    x_rows = Reshape (x, rows)
    element_count = Size (x)
    channel_count = Size (gamma)
    channel_size = Div (element_count, channel_count)
    n = Cast <to = 11> (channel_size)
"""

BATCH_NORM = function(f"""
BatchNorm <epsilon : float = 0.00001, momentum : float = 0.9> (x, gamma, beta, running_mean, running_var)
    => (y, new_mean, new_var, mean, inv_std) {{
    {_CONSTANTS}
    {_INTEGERS.format(name="x", x="x_rows", steps=524288)}
    x_uu = Mul (x_u, x_u)
    sum = ReduceSum <keepdims = 0> (x_u, axes)
    squares = ReduceSum <keepdims = 0> (x_uu, axes)
    sum_double = Cast <to = 11> (sum)
    squares_double = Cast <to = 11> (squares)
    mean_units = Div (sum_double, n)
    mean_square = Div (squares_double, n)
    square_mean = Mul (mean_units, mean_units)
    difference = Sub (mean_square, square_mean)
    nought = Constant <value = double {{0}}> ()
    var_units = Max (difference, nought)
    q_square = Mul (x_q_double, x_q_double)
    var_double = Div (var_units, q_square)
    mean_double = Div (mean_units, x_q_double)
    mean = Cast <to = 1> (mean_double)
    {inverse_std("inv_std")}

    scale = Mul (gamma, inv_std)
    mean_column = Unsqueeze (mean, last_axis)
    scale_column = Unsqueeze (scale, last_axis)
    beta_column = Unsqueeze (beta, last_axis)
    centred = Sub (x_rows, mean_column)
    scaled = Mul (centred, scale_column)
    y_rows = Add (scaled, beta_column)
    y = Reshape (y_rows, shape)

    kept = Constant <value_float : float = @momentum> ()
    one = Constant <value = float {{1}}> ()
    rest = Sub (one, kept)
    var = Cast <to = 1> (var_double)
    kept_mean = Mul (running_mean, kept)
    more_mean = Mul (mean, rest)
    new_mean = Add (kept_mean, more_mean)
    kept_var = Mul (running_var, kept)
    more_var = Mul (var, rest)
    new_var = Add (kept_var, more_var)
}}
""")

BATCH_NORM_GRAD = function(f"""
BatchNormGrad (dy, x, gamma, mean, inv_std) => (dx, dgamma, dbeta) {{
    {_CONSTANTS}
    dy_rows = Reshape (dy, rows)
    mean_column = Unsqueeze (mean, last_axis)
    inv_std_column = Unsqueeze (inv_std, last_axis)
    centred = Sub (x_rows, mean_column)
    xhat = Mul (centred, inv_std_column)
    p = Mul (dy_rows, xhat)
    {_INTEGERS.format(name="dy", x="dy_rows", steps=1073741824)}
    {_INTEGERS.format(name="p", x="p", steps=1073741824)}
    sum = ReduceSum <keepdims = 0> (dy_u, axes)
    sum_p = ReduceSum <keepdims = 0> (p_u, axes)
    sum_double = Cast <to = 11> (sum)
    sum_p_double = Cast <to = 11> (sum_p)
    dbeta_double = Div (sum_double, dy_q_double)
    dgamma_double = Div (sum_p_double, p_q_double)
    dbeta = Cast <to = 1> (dbeta_double)
    dgamma = Cast <to = 1> (dgamma_double)
    mean_dy_double = Div (dbeta_double, n)
    mean_p_double = Div (dgamma_double, n)
    mean_dy = Cast <to = 1> (mean_dy_double)
    mean_p = Cast <to = 1> (mean_p_double)
    scale = Mul (gamma, inv_std)
    mean_dy_column = Unsqueeze (mean_dy, last_axis)
    mean_p_column = Unsqueeze (mean_p, last_axis)
    scale_column = Unsqueeze (scale, last_axis)
    without_mean = Sub (dy_rows, mean_dy_column)
    along = Mul (xhat, mean_p_column)
    rest = Sub (without_mean, along)
    dx_rows = Mul (rest, scale_column)
    dx = Reshape (dx_rows, shape)
}}
""")
