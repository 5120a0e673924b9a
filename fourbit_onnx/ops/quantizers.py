"""Quantisers: a float tensor and its scale to 4-bit codes."""

from collections.abc import Mapping

from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops.masks import PACK_MASK, PACK_UP
from fourbit_onnx.ops.text import ACCEPTED, INT4, PHASE_RATIO, UINT4, codes, function

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

# Format of the codes of a clipped tensor to its quantiser.
PACT: Mapping[str, str] = {"uint4": "QuantizePact", "int4": "QuantizePactSigned"}


def _clipped(format: str, least: str, accepted: str = ACCEPTED) -> str:
    """Lines of a PACT quantiser: codes of ``format``, and the gradient passes above what ``least`` makes.

    `up`, where rounding was up inside the range, is for PactPlusGrad.
    """
    row = FORMATS[format]
    return f"""
    {accepted.format(scale="alpha")}
    bottom = Constant <value = float {{{row.min}}}> ()
    top = Constant <value = float {{{row.max}}}> ()
    scale = Div (alpha, top)
    ratio = Div (x, scale)
    rounded = Round (ratio)
    code = Clip (rounded, bottom, top)
    {codes(row.min, row.max, INT4 if row.element_type == "int4" else UINT4)}
    least = {least}
    above = Greater (x, least)
    below = Less (x, alpha)
    inside = And (above, below)
    {PACK_MASK}
    higher = Greater (rounded, ratio)
    rounded_up = And (inside, higher)
    {PACK_UP}
"""


QUANTIZE_PACT = function(f"""
QuantizePact (x, alpha) => (codes, scale, mask, up) {{
    {_clipped("uint4", "Identity (nought)", _ACCEPTED_UNSIGNED)}
}}
""")

QUANTIZE_PACT_SIGNED = function(f"""
QuantizePactSigned (x, alpha) => (codes, scale, mask, up) {{
    {_clipped("int4", "Neg (alpha)")}
}}
""")


def _nearest_level(thresholds: str, ratio: str) -> str:
    """Lines of a logarithmic quantiser, from those that make `thresholds` and the magnitude `ratio`.

    A code is the sign and how many thresholds the magnitude exceeds.
    """
    return f"""
    {ACCEPTED.format(scale="scale")}
    {thresholds}
    ones = Constant <value = float[7, 1] {{1, 1, 1, 1, 1, 1, 1}}> ()
    last = Constant <value_ints = [-1]> ()
    eight = Constant <value = float {{8}}> ()
    {ratio}
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
"""


_LOG4_THRESHOLDS = """
    threshold = Constant <value_float : float = @threshold> ()
    powers = Constant <value_floats = [0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]> ()
    thresholds = Mul (powers, threshold)
"""

_LOG4_RATIO = f"one = Constant <value = float {{1}}> () {PHASE_RATIO}"

_LOG2_THRESHOLDS = "thresholds = Constant <value_floats = [0.75, 1.5, 3.0, 6.0, 12.0, 24.0, 48.0]> ()"

QUANTIZE_LOG4 = function(f"""
QuantizeLog4 <phase : int = 0, threshold : float = 2.5> (x, scale) => (codes, phase_scale) {{
    {_nearest_level(_LOG4_THRESHOLDS, _LOG4_RATIO)}
}}
""")

QUANTIZE_LOG2 = function(f"""
QuantizeLog2 (x, scale) => (codes) {{
    {_nearest_level(_LOG2_THRESHOLDS, "ratio = Div (size, scale)")}
}}
""")
