"""Quantisers that round stochastically, by random numbers ``u`` in [0, 1) that are an input.

Up if ``u < (m - lower level) / (upper level - lower level)``, m = |x| / scale: unbiased. See
``formats/stochastic.py``.
"""

from fourbit_onnx.ops.text import ACCEPTED, INT4, PHASE_RATIO, UINT4, codes, function

# From the magnitude `ratio` and `u`: the code's magnitude `e` as float, 0 to 7. `level_table` has 8 levels.
_ROUND = """
    ones = Constant <value = float[7, 1] {1, 1, 1, 1, 1, 1, 1}> ()
    last = Constant <value_ints = [-1]> ()
    first_place = Constant <value_ints = [0]> ()
    second_place = Constant <value_ints = [1]> ()
    after_last = Constant <value_ints = [8]> ()
    unused_gap = Constant <value_floats = [1.0]> ()
    seven = Constant <value = float {7}> ()
    upper = Slice (level_table, second_place, after_last)
    lower = Slice (level_table, first_place, last)
    inner_gaps = Sub (upper, lower)
    gap_table = Concat <axis = 0> (inner_gaps, unused_gap)
    column = Unsqueeze (ratio, last)
    reached = GreaterOrEqual (column, upper)
    counted = Cast <to = 1> (reached)
    total = MatMul (counted, ones)      # ReduceSum of an empty tensor: wrong shape in 1.19.2
    below = Squeeze (total, last)
    below_place = Cast <to = 7> (below)
    level = Gather (level_table, below_place)
    gap = Gather (gap_table, below_place)
    rest = Sub (ratio, level)
    share = Div (rest, gap)
    drawn = Less (u, share)
    unsaturated = Less (below, seven)
    up = And (drawn, unsaturated)
    step = Cast <to = 1> (up)
    e = Add (below, step)
    negative = Less (x, nought)
    nonzero = Greater (e, nought)
    minus = And (negative, nonzero)     # never minus zero
"""

QUANTIZE_INT4_STOCHASTIC = function(f"""
QuantizeInt4Stochastic (x, scale, u) => (codes) {{
    {ACCEPTED.format(scale="scale")}
    level_table = Constant <value_floats = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]> ()
    ratio = Div (size, scale)
    {_ROUND}
    negated = Neg (e)
    code = Where (minus, negated, e)
    {codes(-7, 7, INT4)}
}}
""")

# ``levels``: those of the codes 0..7, powers of the radix.
QUANTIZE_LOG_STOCHASTIC = function(f"""
QuantizeLogStochastic <levels, phase : int = 0> (x, scale, u) => (codes, phase_scale) {{
    {ACCEPTED.format(scale="scale")}
    level_integers = Constant <value_ints : ints = @levels> ()
    level_table = Cast <to = 1> (level_integers)
    one = Constant <value = float {{1}}> ()
    eight = Constant <value = float {{8}}> ()
    {PHASE_RATIO}
    {_ROUND}
    sign = Where (minus, eight, nought)
    code = Add (e, sign)
    {codes(0, 15, UINT4)}
}}
""")
