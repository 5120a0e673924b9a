"""Block formats: a tensor to one integer scale a block, to codes, and through the Hadamard transform.

Blocks lie along the last axis, which is the one that `QBlockMatMul` sums; who wants another axis
transposes first. ``rows`` = 16 makes them 16 x 16.
"""

from fourbit_onnx.formats import block_scales, e4m3, hadamard
from fourbit_onnx.ops.text import ACCEPTED, INT4, LARGEST_MAGNITUDE, UINT4, codes, function

# `maxima` [batch, ceil(height / rows), ceil(depth / size)]: the largest magnitude of each block. At least one
# block is made, of zeros, because ONNX Runtime refuses to reduce an empty tensor.
_MAXIMA = f"""
    {LARGEST_MAGNITUDE}
    nought = Constant <value = float {{0}}> ()
    one = Constant <value = float {{1}}> ()
    zero_at = Constant <value = int64[1] {{0}}> ()
    one_at = Constant <value = int64[1] {{1}}> ()
    two_at = Constant <value = int64[1] {{2}}> ()
    minus_two = Constant <value = int64[1] {{-2}}> ()
    far = Constant <value = int64[1] {{1000}}> ()
    size = Constant <value_int : int = @size> ()
    rows = Constant <value_int : int = @rows> ()
    x_shape = Shape (x)
    outer = Slice (x_shape, zero_at, minus_two)
    matrix_shape = Slice (x_shape, minus_two, far)
    outer_or_one = Concat <axis = 0> (one_at, outer)
    batch = ReduceProd <keepdims = 1> (outer_or_one)
    flat_shape = Concat <axis = 0> (batch, matrix_shape)
    flat = Reshape <allowzero = 1> (magnitude, flat_shape)
    rows_column = Reshape (rows, one_at)
    size_column = Reshape (size, one_at)
    tile = Concat <axis = 0> (one_at, rows_column, size_column)
    no_less = Max (flat_shape, one_at)
    negated = Neg (no_less)
    missing = Mod (negated, tile)
    full = Add (no_less, missing)
    tiles = Div (full, tile)
    padding = Sub (full, flat_shape)
    none = Constant <value = int64[3] {{0, 0, 0}}> ()
    amounts = Concat <axis = 0> (none, padding)
    padded = Pad (flat, amounts)
    batch_tiles = Slice (tiles, zero_at, one_at)
    high = Slice (tiles, one_at, two_at)
    wide = Slice (tiles, two_at, far)
    tiled_shape = Concat <axis = 0> (batch_tiles, high, rows_column, wide, size_column)
    tiled = Reshape (padded, tiled_shape)
    inner = Constant <value = int64[2] {{2, 4}}> ()
    maxima = ReduceMax <keepdims = 0> (tiled, inner)
    all_zero = Equal (m, nought)
"""

# `block_scale` from float `grid` of the shape of `maxima`: repeated for each row, the padding cut off.
_FOR_ROWS = """
    whole = Cast <to = 6> (grid)
    row_axis = Constant <value = int64[1] {2}> ()
    whole_column = Unsqueeze (whole, row_axis)
    spread_shape = Concat <axis = 0> (batch_tiles, high, rows_column, wide)
    spread = Expand (whole_column, spread_shape)
    all_rows = Mul (high, rows_column)
    full_shape = Concat <axis = 0> (batch_tiles, all_rows, wide)
    full_scales = Reshape (spread, full_shape)
    height = Slice (flat_shape, one_at, two_at)
    depth = Slice (flat_shape, two_at, far)
    depth_negated = Neg (depth)
    depth_missing = Mod (depth_negated, size_column)
    depth_full = Add (depth, depth_missing)
    block_count = Div (depth_full, size_column)
    ends = Concat <axis = 0> (batch, height, block_count)
    cut = Slice (full_scales, none, ends)
    result_shape = Concat <axis = 0> (outer, height, block_count)
    block_scale = Reshape <allowzero = 1> (cut, result_shape)
"""

_EDGES = [2.0**e for e in range(4, 18)]

NVFP4_SCALE = function(f"""
Nvfp4Scale <size : int = 16, rows : int = 1, up : int = 0> (x) => (block_scale, scale) {{
    {_MAXIMA}
    top = Constant <value = float {{2688}}> ()
    tiny = Constant <value = float {{1e-30}}> ()
    fitted = Div (m, top)
    guarded = Max (fitted, tiny)
    outer_scale = Where (all_zero, one, guarded)
    six = Constant <value = float {{6}}> ()
    unit = Constant <value = float {{{float(e4m3.UNIT)!r}}}> ()
    sixths = Div (maxima, six)
    ratio = Div (sixths, outer_scale)
    units = Div (ratio, unit)
    edges = Constant <value_floats = {_EDGES}> ()
    spacings = Constant <value_floats = {[2.0**e for e in range(15)]}> ()
    last = Constant <value_ints = [-1]> ()
    units_column = Unsqueeze (units, last)
    beyond = GreaterOrEqual (units_column, edges)
    beyond_float = Cast <to = 1> (beyond)
    beyond_count = ReduceSum <keepdims = 0> (beyond_float, last)
    place = Cast <to = 7> (beyond_count)
    spacing = Gather (spacings, place)
    in_spacings = Div (units, spacing)
    nearest = Round (in_spacings)
    upper = Ceil (in_spacings)
    up_number = Constant <value_int : int = @up> ()
    round_up = Cast <to = 9> (up_number)
    rounded = Where (round_up, upper, nearest)
    unbounded = Mul (rounded, spacing)
    most = Constant <value = float {{{float(e4m3.TOP)}}}> ()
    grid = Clip (unbounded, one, most)
    {_FOR_ROWS}
    half = Constant <value = float {{{2.0**-10!r}}}> ()
    scale = Mul (outer_scale, half)
}}
""")

_POWERS = [2.0**e for e in range(-81, 127)]

MXFP4_SCALE = function(f"""
Mxfp4Scale <size : int = 32, rows : int = 1> (x) => (block_scale, scale) {{
    {_MAXIMA}
    powers = Constant <value_floats = {_POWERS}> ()
    below_top = Constant <value_floats = {_POWERS[:-1]}> ()
    six = Constant <value = float {{6}}> ()
    top_limits = Mul (six, below_top)
    exceeded = Less (top_limits, m)
    exceeded_float = Cast <to = 1> (exceeded)
    exceeded_count = ReduceSum <keepdims = 0> (exceeded_float)
    place = Cast <to = 7> (exceeded_count)
    fitting = Gather (powers, place)
    top = Where (all_zero, one, fitting)
    shares = Constant <value_floats = {[2.0**e for e in range(-block_scales.SPAN, 0)]}> ()
    smaller = Mul (top, shares)
    limits = Mul (six, smaller)
    last = Constant <value_ints = [-1]> ()
    maxima_column = Unsqueeze (maxima, last)
    over = Less (limits, maxima_column)
    over_float = Cast <to = 1> (over)
    over_count = ReduceSum <keepdims = 0> (over_float, last)
    exponent = Cast <to = 7> (over_count)
    scales = Constant <value_floats = {[2.0**e for e in range(block_scales.SPAN + 1)]}> ()
    grid = Gather (scales, exponent)
    {_FOR_ROWS}
    half = Constant <value = float {{{2.0 ** -(block_scales.SPAN + 1)!r}}}> ()
    scale = Mul (top, half)
}}
""")

BLOCK16_SCALE = function(f"""
Block16Scale <size : int = 16, rows : int = 1> (x) => (block_scale, scale) {{
    {_MAXIMA}
    seven = Constant <value = float {{7}}> ()
    tiny = Constant <value = float {{1e-30}}> ()
    seventh = Div (m, seven)
    guarded = Max (seventh, tiny)
    step = Where (all_zero, one, guarded)
    divisor = Where (all_zero, one, m)
    share = Div (maxima, divisor)
    units = Constant <value = float {{{2.0**block_scales.SPAN}}}> ()
    scaled = Mul (share, units)
    upper = Ceil (scaled)
    grid = Max (upper, one)
    {_FOR_ROWS}
    unit = Constant <value = float {{{2.0**-block_scales.SPAN!r}}}> ()
    scale = Mul (step, unit)
}}
""")

# `r` = |x| over the step of its block; `accepted` as every quantiser has it.
_RATIO = f"""
    zero_at = Constant <value = int64[1] {{0}}> ()
    one_at = Constant <value = int64[1] {{1}}> ()
    minus_one = Constant <value = int64[1] {{-1}}> ()
    far = Constant <value = int64[1] {{1000}}> ()
    block_size = Constant <value_int : int = @size> ()
    size_column = Reshape (block_size, one_at)
    x_shape = Shape (x)
    depth = Slice (x_shape, minus_one, far)
    block_float = Cast <to = 1> (block_scale)
    block_step = Mul (block_float, scale)
    step_shape = Shape (block_step)
    leading = Slice (step_shape, zero_at, minus_one)
    block_count = Slice (step_shape, minus_one, far)
    repeated_depth = Mul (block_count, size_column)
    step_column = Unsqueeze (block_step, minus_one)
    repeated = Expand (step_column, size_column)
    row_shape = Concat <axis = 0> (leading, repeated_depth)
    step_rows = Reshape <allowzero = 1> (repeated, row_shape)
    step = Slice (step_rows, zero_at, depth, minus_one)
    {ACCEPTED.format(scale="step")}
    r = Div (size, step)
"""

_NEAREST = """
    q = Round (spacings)
"""

# Up where u is below the fraction, which is exact.
_STOCHASTIC = """
    down = Floor (spacings)
    fraction = Sub (spacings, down)
    is_up = Less (u, fraction)
    up = Cast <to = 1> (is_up)
    q = Add (down, up)
"""


def _e2m1(rounding: str) -> str:
    return f"""
    {_RATIO}
    unity = Constant <value = float {{1}}> ()
    two = Constant <value = float {{2}}> ()
    four = Constant <value = float {{4}}> ()
    seven = Constant <value = float {{7}}> ()
    eight = Constant <value = float {{8}}> ()
    is_wide = GreaterOrEqual (r, four)
    is_wider = GreaterOrEqual (r, eight)
    some = Where (is_wide, two, unity)
    spacing = Where (is_wider, four, some)
    spacings = Div (r, spacing)
    {rounding}
    wide = Cast <to = 1> (is_wide)
    wider = Cast <to = 1> (is_wider)
    levels = Add (wide, wider)
    skipped = Mul (levels, two)
    counted = Add (q, skipped)
    plus = Min (counted, seven)
    negative = Less (x, nought)
    nonzero = Greater (plus, nought)
    minus = And (negative, nonzero)     # never minus zero
    sign = Where (minus, eight, nought)
    code = Add (plus, sign)
    {codes(0, 15, UINT4)}
"""


def _int4(rounding: str) -> str:
    return f"""
    {_RATIO}
    seven = Constant <value = float {{7}}> ()
    spacings = Identity (r)
    {rounding}
    plus = Min (q, seven)
    minus = Neg (plus)
    negative = Less (x, nought)
    code = Where (negative, minus, plus)
    {codes(-7, 7, INT4)}
"""


QUANTIZE_E2M1_BLOCKS = function(f"""
QuantizeE2M1Blocks <size : int = 16> (x, block_scale, scale) => (codes) {{
    {_e2m1(_NEAREST)}
}}
""")

QUANTIZE_E2M1_BLOCKS_STOCHASTIC = function(f"""
QuantizeE2M1BlocksStochastic <size : int = 16> (x, block_scale, scale, u) => (codes) {{
    {_e2m1(_STOCHASTIC)}
}}
""")

QUANTIZE_INT4_BLOCKS = function(f"""
QuantizeInt4Blocks <size : int = 16> (x, block_scale, scale) => (codes) {{
    {_int4(_NEAREST)}
}}
""")

QUANTIZE_INT4_BLOCKS_STOCHASTIC = function(f"""
QuantizeInt4BlocksStochastic <size : int = 16> (x, block_scale, scale, u) => (codes) {{
    {_int4(_STOCHASTIC)}
}}
""")


def _stage(distance: int) -> str:
    """Lines of one stage of the butterfly, from `y{distance}` to `y{2 * distance}`."""
    d = distance
    return f"""
    shape{d} = Constant <value = int64[4] {{-1, {hadamard.SIZE // (2 * d)}, 2, {d}}}> ()
    pairs{d} = Reshape (y{d}, shape{d})
    a{d}, b{d} = Split <axis = 2, num_outputs = 2> (pairs{d})
    plus{d} = Add (a{d}, b{d})
    minus{d} = Sub (a{d}, b{d})
    y{2 * d} = Concat <axis = 2> (plus{d}, minus{d})
"""


# One row of zeros is added and removed: a Reshape to -1 of an empty tensor is ambiguous.
BLOCK_HADAMARD = function(f"""
BlockHadamard (x) => (y) {{
    zero_at = Constant <value = int64[1] {{0}}> ()
    one_at = Constant <value = int64[1] {{1}}> ()
    minus_one = Constant <value = int64[1] {{-1}}> ()
    far = Constant <value = int64[1] {{1000}}> ()
    block = Constant <value = int64[1] {{{hadamard.SIZE}}}> ()
    x_shape = Shape (x)
    leading = Slice (x_shape, zero_at, minus_one)
    depth = Slice (x_shape, minus_one, far)
    negated = Neg (depth)
    missing = Mod (negated, block)
    wide = Add (depth, missing)
    leading_or_one = Concat <axis = 0> (one_at, leading)
    height = ReduceProd <keepdims = 1> (leading_or_one)
    flat_shape = Concat <axis = 0> (height, depth)
    flat = Reshape <allowzero = 1> (x, flat_shape)
    no_pad = Constant <value = int64[2] {{0, 0}}> ()
    amounts = Concat <axis = 0> (no_pad, zero_at, missing)
    padded = Pad (flat, amounts)
    count = Mul (height, wide)
    column = Reshape <allowzero = 1> (padded, count)
    spare = Constant <value = float[{hadamard.SIZE}] {{{", ".join("0" * hadamard.SIZE)}}}> ()
    enough = Concat <axis = 0> (column, spare)
    blocks_shape = Constant <value = int64[2] {{-1, {hadamard.SIZE}}}> ()
    blocks = Reshape (enough, blocks_shape)
    signs = Constant <value_floats = {[float(sign) for sign in hadamard.SIGNS]}> ()
    y1 = Mul (blocks, signs)
    {_stage(1)}
    {_stage(2)}
    {_stage(4)}
    {_stage(8)}
    quarter = Constant <value = float {{0.25}}> ()
    scaled = Mul (y16, quarter)
    flat_result_shape = Constant <value_ints = [-1]> ()
    flat_result = Reshape (scaled, flat_result_shape)
    wanted = Slice (flat_result, zero_at, count)
    y_shape = Concat <axis = 0> (leading, wide)
    y = Reshape <allowzero = 1> (wanted, y_shape)
}}
""")
