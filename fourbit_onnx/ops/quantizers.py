"""Quantisers: a float tensor and its scale to 4-bit codes."""

from fourbit_onnx.ops.text import ACCEPTED, INT4, UINT4, codes, function

QUANTIZE_INT4 = function(f"""
QuantizeInt4 (x, scale) => (codes) {{
    {ACCEPTED.format(scale="scale")}
    bottom = Constant <value = float {{-7}}> ()
    top = Constant <value = float {{7}}> ()
    ratio = Div (x, scale)
    rounded = Round (ratio)
    code = Clip (rounded, bottom, top)
    {codes(-7, 7, INT4)}
}}
""")

QUANTIZE_AFFINE = function(f"""
QuantizeAffine (x, scale, zero_point) => (codes) {{
    {ACCEPTED.format(scale="scale")}
    bottom = Constant <value = float {{-8}}> ()
    top = Constant <value = float {{7}}> ()
    zero_float = Cast <to = 1> (zero_point)
    ratio = Div (x, scale)
    rounded = Round (ratio)
    shifted = Add (rounded, zero_float)
    code = Clip (shifted, bottom, top)
    {codes(-8, 7, INT4)}
}}
""")

# One bit an element, the first in the lowest bit of the first byte; true where dx = dy.
_PACK_MASK = """
    minus_one = Constant <value_ints = [-1]> ()
    zero = Constant <value = int64[1] {0}> ()
    eight = Constant <value = int64[1] {8}> ()
    weights = Constant <value = float[8, 1] {1, 2, 4, 8, 16, 32, 64, 128}> ()
    element_count = Size (x)
    count_column = Reshape (element_count, minus_one)
    negated = Neg (count_column)
    missing = Mod (negated, eight)
    padded_count = Add (count_column, missing)
    byte_count = Div (padded_count, eight)
    bits_shape = Concat <axis = 0> (byte_count, eight)
    inside_float = Cast <to = 1> (inside)
    inside_flat = Reshape <allowzero = 1> (inside_float, count_column)
    tail = ConstantOfShape <value = float[1] {0}> (missing)
    bits_flat = Concat <axis = 0> (inside_flat, tail)
    bits = Reshape <allowzero = 1> (bits_flat, bits_shape)
    bytes = MatMul (bits, weights)
    bytes_flat = Reshape <allowzero = 1> (bytes, byte_count)
    mask = Cast <to = 2> (bytes_flat)
"""

QUANTIZE_PACT = function(f"""
QuantizePact (x, alpha) => (codes, scale, mask) {{
    {ACCEPTED.format(scale="alpha")}
    top = Constant <value = float {{15}}> ()
    scale = Div (alpha, top)
    ratio = Div (x, scale)
    rounded = Round (ratio)
    code = Clip (rounded, nought, top)
    {codes(0, 15, UINT4)}
    positive = Greater (x, nought)
    below = Less (x, alpha)
    inside = And (positive, below)
    {_PACK_MASK}
}}
""")

QUANTIZE_PACT_SIGNED = function(f"""
QuantizePactSigned (x, alpha) => (codes, scale, mask) {{
    {ACCEPTED.format(scale="alpha")}
    bottom = Constant <value = float {{-7}}> ()
    top = Constant <value = float {{7}}> ()
    scale = Div (alpha, top)
    ratio = Div (x, scale)
    rounded = Round (ratio)
    code = Clip (rounded, bottom, top)
    {codes(-7, 7, INT4)}
    least = Neg (alpha)
    above = Greater (x, least)
    below = Less (x, alpha)
    inside = And (above, below)
    {_PACK_MASK}
}}
""")

# The odd phase is the same rule with twice the scale, which is exact.
QUANTIZE_LOG4 = function(f"""
QuantizeLog4 <phase : int = 0, threshold : float = 2.5> (x, scale) => (codes, phase_scale) {{
    {ACCEPTED.format(scale="scale")}
    threshold = Constant <value_float : float = @threshold> ()
    powers = Constant <value_floats = [0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]> ()
    thresholds = Mul (powers, threshold)
    ones = Constant <value = float[7, 1] {{1, 1, 1, 1, 1, 1, 1}}> ()
    last = Constant <value_ints = [-1]> ()
    eight = Constant <value = float {{8}}> ()
    one = Constant <value = float {{1}}> ()
    phase_number = Constant <value_int : int = @phase> ()
    phase_float = Cast <to = 1> (phase_number)
    factor = Add (one, phase_float)
    phase_scale = Mul (scale, factor)
    ratio = Div (size, phase_scale)
    column = Unsqueeze (ratio, last)
    above = Greater (column, thresholds)
    counted = Cast <to = 1> (above)
    total = MatMul (counted, ones)      # ReduceSum of an empty tensor: wrong shape in 1.19.2
    e = Squeeze (total, last)
    negative = Less (x, nought)
    nonzero = Greater (e, nought)
    minus = And (negative, nonzero)     # never minus zero
    sign = Where (minus, eight, nought)
    code = Add (e, sign)
    {codes(0, 15, UINT4)}
}}
""")

PACT_GRAD = function("""
PactGrad <top : int = 15> (dy, codes, mask) => (dx, dalpha) {
    minus_one = Constant <value_ints = [-1]> ()
    zero_at = Constant <value = int64[1] {0}> ()
    no_element = Constant <value = float[1] {0}> ()
    no_integer = Constant <value = int64[1] {0}> ()
    nought = Constant <value = float {0}> ()
    unit = Constant <value = float {1}> ()
    largest = Constant <value = float {3.4028235e38}> ()
    powers = Constant <value = uint8[8] {1, 2, 4, 8, 16, 32, 64, 128}> ()
    shape = Shape (dy)
    element_count = Size (dy)
    count_column = Reshape (element_count, minus_one)
    bytes = Unsqueeze (mask, minus_one)
    bits = BitwiseAnd (bytes, powers)
    bits_count = Size (bits)
    bits_column = Reshape (bits_count, minus_one)
    bits_flat = Reshape <allowzero = 1> (bits, bits_column)
    taken = Slice (bits_flat, zero_at, count_column)
    bit = Reshape <allowzero = 1> (taken, shape)
    inside = Cast <to = 9> (bit)
    outside = Not (inside)
    dx = Where (outside, nought, dy)

    flat = Reshape <allowzero = 1> (dy, count_column)
    magnitude = Abs (flat)
    magnitudes = Concat <axis = 0> (magnitude, no_element)
    finite = LessOrEqual (magnitudes, largest)
    not_finite = Not (finite)
    bad = Cast <to = 1> (not_finite)
    worst = ReduceMax <keepdims = 0> (bad)
    any_bad = Cast <to = 7> (worst)
    largest_magnitude = ReduceMax <keepdims = 1> (magnitudes)
    [dy_has_nan_or_infinity] m = Gather (largest_magnitude, any_bad)
    all_zero = Equal (m, nought)
    divisor = Where (all_zero, unit, m)
    ratio = Div (dy, divisor)
    two_to_30 = Constant <value = float {1073741824}> ()
    scaled = Mul (ratio, two_to_30)
    rounded = Round (scaled)
    top_number = Constant <value_int : int = @top> ()
    top_code = Cast <to = 1> (top_number)
    bottom_code = Neg (top_code)
    code = DequantizeLinear (codes, unit)
    at_top = Equal (code, top_code)
    at_bottom = Equal (code, bottom_code)
    clipped_top = And (at_top, outside)
    clipped_bottom = And (at_bottom, outside)
    minus_rounded = Neg (rounded)
    upper = Where (clipped_top, rounded, nought)
    either = Where (clipped_bottom, minus_rounded, upper)
    terms = Cast <to = 7> (either)
    terms_flat = Reshape <allowzero = 1> (terms, count_column)
    terms_column = Concat <axis = 0> (terms_flat, no_integer)
    sum = ReduceSum <keepdims = 0> (terms_column)
    sum_double = Cast <to = 11> (sum)
    m_double = Cast <to = 11> (m)
    unit_double = Constant <value = double {0.000000000931322574615478515625}> ()   # 2**-30
    in_units = Mul (sum_double, unit_double)
    product = Mul (in_units, m_double)
    dalpha = Cast <to = 1> (product)
}
""")
