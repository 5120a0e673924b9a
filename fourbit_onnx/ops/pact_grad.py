"""The gradient of PACT: through the mask to the activation, from what was clipped to the clip."""

from fourbit_onnx.ops.masks import UNPACK_MASK
from fourbit_onnx.ops.text import finite_magnitude, function


def _sum(terms: str, result: str) -> str:
    """Lines that make ``result``, double: the sum of floats that are integers, added as such."""
    return f"""
    {result}_integers = Cast <to = 7> ({terms})
    {result}_flat = Reshape <allowzero = 1> ({result}_integers, count_column)
    {result}_column = Concat <axis = 0> ({result}_flat, no_integer)
    {result}_exact = ReduceSum <keepdims = 0> ({result}_column)
    {result} = Cast <to = 11> ({result}_exact)
"""


# To `clipped`, double: the sum of `rounded`, dy in units of m * 2**-30, over clipped elements.
_CLIPPED = f"""
    {UNPACK_MASK}
    no_element = Constant <value = float[1] {{0}}> ()
    no_integer = Constant <value = int64[1] {{0}}> ()
    nought = Constant <value = float {{0}}> ()
    unit = Constant <value = float {{1}}> ()
    largest = Constant <value = float {{3.4028235e38}}> ()
    dx = Where (outside, nought, dy)

    flat = Reshape <allowzero = 1> (dy, count_column)
    {finite_magnitude("dy", "flat")}
    all_zero = Equal (m, nought)
    divisor = Where (all_zero, unit, m)
    ratio = Div (dy, divisor)
    two_to_30 = Constant <value = float {{1073741824}}> ()
    scaled = Mul (ratio, two_to_30)
    rounded = Round (scaled)
    minus_rounded = Neg (rounded)
    top_number = Constant <value_int : int = @top> ()
    top_code = Cast <to = 1> (top_number)
    bottom_code = Neg (top_code)
    code = DequantizeLinear (codes, unit)
    at_top = Equal (code, top_code)
    at_bottom = Equal (code, bottom_code)
    clipped_top = And (at_top, outside)
    clipped_bottom = And (at_bottom, outside)
    upper = Where (clipped_top, rounded, nought)
    either = Where (clipped_bottom, minus_rounded, upper)
    {_sum("either", "clipped")}
"""

# From `total`, double, in the same units.
_DALPHA = """
    m_double = Cast <to = 11> (m)
    unit_double = Constant <value = double {0.000000000931322574615478515625}> ()   # 2**-30
    in_units = Mul (total, unit_double)
    product = Mul (in_units, m_double)
    dalpha = Cast <to = 1> (product)
"""

PACT_GRAD = function(f"""
PactGrad <top : int = 15> (dy, codes, mask) => (dx, dalpha) {{
    {_CLIPPED}
    total = Identity (clipped)
    {_DALPHA}
}}
""")

# `up`: the mask of what was rounded up.
PACT_PLUS_GRAD = function(f"""
PactPlusGrad <top : int = 15> (dy, codes, mask, up) => (dx, dalpha) {{
    {_CLIPPED}
    up_bytes = Unsqueeze (up, minus_one)
    up_bits = BitwiseAnd (up_bytes, powers)
    up_flat = Reshape <allowzero = 1> (up_bits, bits_column)
    up_taken = Slice (up_flat, zero_at, count_column)
    up_bit = Reshape <allowzero = 1> (up_taken, shape)
    is_up = Cast <to = 9> (up_bit)
    signed = Where (is_up, rounded, minus_rounded)
    within = Where (outside, nought, signed)
    {_sum("within", "inside_sum")}
    four = Constant <value = double {{4}}> ()
    top_double = Cast <to = 11> (top_number)
    quarters = Mul (four, top_double)
    rounding = Div (inside_sum, quarters)
    total = Add (clipped, rounding)
    {_DALPHA}
}}
""")
