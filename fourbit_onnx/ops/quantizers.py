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

# What is below 0 is 0 to an unsigned quantiser, minus infinity too: so a Relu in front of it changes nothing.
_ACCEPTED_UNSIGNED = ACCEPTED.replace("Abs (x)", "Identity (x)")

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
    {_ACCEPTED_UNSIGNED.format(scale="alpha")}
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

QUANTIZE_LOG2 = function(f"""
QuantizeLog2 (x, scale) => (codes) {{
    {ACCEPTED.format(scale="scale")}
    thresholds = Constant <value_floats = [0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0]> ()
    ones = Constant <value = float[7, 1] {{1, 1, 1, 1, 1, 1, 1}}> ()
    last = Constant <value_ints = [-1]> ()
    eight = Constant <value = float {{8}}> ()
    ratio = Div (size, scale)
    column = Unsqueeze (ratio, last)
    above = Greater (column, thresholds)
    counted = Cast <to = 1> (above)
    total = MatMul (counted, ones)
    e = Squeeze (total, last)
    negative = Less (x, nought)
    nonzero = Greater (e, nought)
    minus = And (negative, nonzero)
    sign = Where (minus, eight, nought)
    code = Add (e, sign)
    {codes(0, 15, UINT4)}
}}
""")
