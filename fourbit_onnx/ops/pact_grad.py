"""The gradient of PACT: through the mask to the activation, from what was clipped to the clip."""

from fourbit_onnx.ops.masks import UNPACK_MASK
from fourbit_onnx.ops.text import finite_magnitude, function

PACT_GRAD = function(f"""
PactGrad <top : int = 15> (dy, codes, mask) => (dx, dalpha) {{
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
    unit_double = Constant <value = double {{0.000000000931322574615478515625}}> ()   # 2**-30
    in_units = Mul (sum_double, unit_double)
    product = Mul (in_units, m_double)
    dalpha = Cast <to = 1> (product)
}}
""")
