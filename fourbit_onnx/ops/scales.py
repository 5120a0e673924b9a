"""Scale rules: a float tensor to the scale of its codes.

Sums are sums of integers (magnitudes in units of the largest one times 2**-16), so that every order
of summation, and so every number of threads, gives the same bits.
"""

from fourbit_onnx.ops.text import LARGEST_MAGNITUDE, function

# max(scale, 1e-30): never a division by zero or by a number so small that 1/scale is not finite.
_GUARD = """
    tiny = Constant <value = float {{1e-30}}> ()
    guarded = Max ({scale}, tiny)
"""

# A tensor of zeros has scale 1.
_CONSTANTS = """
    nought = Constant <value = float {0}> ()
    one = Constant <value = float {1}> ()
"""

_SCALE_OR_ONE = """
    all_zero = Equal (m, nought)
    scale = Where (all_zero, one, guarded)
"""

_OR_ONE = _CONSTANTS + _SCALE_OR_ONE

SAWB_SCALE = function(f"""
SawbScale (x) => (scale) {{
    {LARGEST_MAGNITUDE}
    units = Constant <value = float {{65536}}> ()
    never_zero = Constant <value = float {{1.17549435e-38}}> ()
    no_integer = Constant <value = int64[1] {{0}}> ()
    zero_m = Constant <value = float {{0}}> ()
    m_is_zero = Equal (m, zero_m)
    divisor = Where (m_is_zero, never_zero, m)
    ratio = Div (magnitude, divisor)
    scaled = Mul (ratio, units)
    rounded = Round (scaled)
    u = Cast <to = 7> (rounded)
    uu = Mul (u, u)
    u_column = Concat <axis = 0> (u, no_integer)
    uu_column = Concat <axis = 0> (uu, no_integer)
    sum1 = ReduceSum <keepdims = 0> (u_column)
    sum2 = ReduceSum <keepdims = 0> (uu_column)
    n = Cast <to = 11> (element_count)
    s1 = Cast <to = 11> (sum1)
    s2 = Cast <to = 11> (sum2)
    unit1 = Constant <value = double {{0.0000152587890625}}> ()
    unit2 = Constant <value = double {{0.00000000023283064365386962890625}}> ()
    mean1 = Div (s1, n)
    mean2 = Div (s2, n)
    e1 = Mul (mean1, unit1)
    e2 = Mul (mean2, unit2)
    root = Sqrt (e2)
    c1 = Constant <value = double {{12.035}}> ()
    c2 = Constant <value = double {{12.03}}> ()
    first = Mul (c1, root)
    second = Mul (c2, e1)
    clip_ratio = Sub (first, second)
    m_double = Cast <to = 11> (m)
    sixteen = Constant <value = double {{16}}> ()
    smallest = Div (m_double, sixteen)
    fitted = Mul (m_double, clip_ratio)
    too_small = Less (fitted, smallest)
    alpha_double = Where (too_small, m_double, fitted)
    alpha = Cast <to = 1> (alpha_double)
    seven = Constant <value = float {{7}}> ()
    seventh = Div (alpha, seven)
    {_GUARD.format(scale="seventh")}
    {_OR_ONE}
}}
""")

ABS_MAX_SCALE = function(f"""
AbsMaxScale (x) => (scale) {{
    {LARGEST_MAGNITUDE}
    seven = Constant <value = float {{7}}> ()
    seventh = Div (m, seven)
    {_GUARD.format(scale="seventh")}
    {_OR_ONE}
}}
""")

# LUQ's: the largest magnitude is the top level of log2, 64 times the scale.
UNDERFLOW_SCALE = function(f"""
UnderflowScale (x) => (scale) {{
    {LARGEST_MAGNITUDE}
    sixty_four = Constant <value = float {{64}}> ()
    lowest = Div (m, sixty_four)
    {_GUARD.format(scale="lowest")}
    {_OR_ONE}
}}
""")

MIN_MAX_SCALE = function(f"""
MinMaxScale (x) => (scale, zero_point) {{
    {LARGEST_MAGNITUDE}
    {_CONSTANTS}
    no_elements = Constant <value = int64 {{0}}> ()
    is_empty = Equal (element_count, no_elements)
    last_place = Constant <value = int64[1] {{1}}> ()
    infinities = ConstantOfShape <value = float[1] {{3.4028235e38}}> (last_place)
    minus_infinities = Neg (infinities)
    with_top = Concat <axis = 0> (flat_x, infinities)
    with_bottom = Concat <axis = 0> (flat_x, minus_infinities)
    least = ReduceMin <keepdims = 0> (with_top)
    greatest = ReduceMax <keepdims = 0> (with_bottom)
    lo = Where (is_empty, nought, least)
    hi = Where (is_empty, nought, greatest)
    lo_double = Cast <to = 11> (lo)
    hi_double = Cast <to = 11> (hi)
    range = Sub (hi_double, lo_double)
    fifteen = Constant <value = double {{15}}> ()
    step_double = Div (range, fifteen)
    step = Cast <to = 1> (step_double)
    share = Constant <value = float {{0.0000152587890625}}> ()   # 2**-16: bounds the zero point
    least_step = Mul (m, share)
    bounded = Max (step, least_step)
    constant = Equal (lo, hi)
    raw = Where (constant, m, bounded)
    {_GUARD.format(scale="raw")}
    {_SCALE_OR_ONE}
    offset = Div (lo, scale)
    minus_eight = Constant <value = float {{-8}}> ()
    stretched = Sub (minus_eight, offset)
    whole = Round (stretched)
    zero_float = Where (constant, nought, whole)
    zero_point = Cast <to = 6> (zero_float)
}}
""")

_LOWEST, _HIGHEST = -87, 127  # exponents of the top level; the scale is 2**-12 of it, at least 2**-99

_TOP_LEVEL = f"""
    {LARGEST_MAGNITUDE}
    nought = Constant <value = float {{0}}> ()
    powers = Constant <value_floats = {[2.0**e for e in range(_LOWEST, _HIGHEST + 1)]}> ()
    below_top = Constant <value_floats = {[2.0**e for e in range(_LOWEST, _HIGHEST)]}> ()
    threshold = Constant <value_float : float = @threshold> ()
    limits = Mul (threshold, below_top)
    over = Less (limits, m)
    over_float = Cast <to = 1> (over)
    steps = ReduceSum <keepdims = 0> (over_float)
    exponent = Cast <to = 7> (steps)
    fitting = Gather (powers, exponent)
    all_zero = Equal (m, nought)
    ratio = Constant <value = float {{0.000244140625}}> ()   # 4**-6: lowest level over top level
"""

GRADIENT_SCALE = function(f"""
GradientScale <threshold : float = 2.5> (x) => (scale) {{
    {_TOP_LEVEL}
    one = Constant <value = float {{1}}> ()
    fitted = Mul (fitting, ratio)
    scale = Where (all_zero, one, fitted)
}}
""")

# One of len(factors) multiples of 1/1024, by a random number in [0, 1); of others, the place is past the end.
DITHER_SCALE = function("""
DitherScale <factors> (scale, u) => (dithered) {
    table = Constant <value_ints : ints = @factors> ()
    scalar = Constant <value = int64[0] {}> ()
    count = Size (table)
    places = Cast <to = 1> (count)
    draw = Reshape (u, scalar)
    nought = Constant <value = float {0}> ()
    not_negative = GreaterOrEqual (draw, nought)
    product = Mul (draw, places)
    place = Where (not_negative, product, places)
    index = Cast <to = 7> (place)
    [u_is_not_in_0_to_1] whole = Gather (table, index)
    numerator = Cast <to = 1> (whole)
    unit = Constant <value = float {0.0009765625}> ()
    factor = Mul (numerator, unit)
    dithered = Mul (scale, factor)
}
""")

LEARNED_GRADIENT_SCALE = function(f"""
LearnedGradientScale <threshold : float = 2.5> (x, top) => (scale, new_top) {{
    {_TOP_LEVEL}
    whole = Constant <value = float {{4096}}> ()
    first_top = Where (all_zero, whole, fitting)
    never_set = Equal (top, nought)
    used_top = Where (never_set, first_top, top)
    scale = Mul (used_top, ratio)
    two = Constant <value = float {{2}}> ()
    half = Constant <value = float {{0.5}}> ()
    upper = Mul (threshold, used_top)
    lower = Mul (upper, half)
    overflow = Greater (m, upper)
    underflow = LessOrEqual (m, lower)
    doubled = Mul (used_top, two)
    halved = Mul (used_top, half)
    not_more = Where (underflow, halved, used_top)
    moved = Where (overflow, doubled, not_more)
    next_top = Where (all_zero, used_top, moved)
    least_top = Constant <value = float {{{2.0**-87}}}> ()
    most_top = Constant <value = float {{{2.0**115}}}> ()
    set_top = Clip (next_top, least_top, most_top)
    still_unset = And (all_zero, never_set)
    new_top = Where (still_unset, nought, set_top)
}}
""")
