"""How a function body is written: ONNX text, with the few phrases that several operators share."""

import onnx.parser

from fourbit_onnx.formats import log4

DOMAIN = "ai.fourbit"
VERSION = 1
OPSET = 21


def function(text: str) -> onnx.FunctionProto:
    """The function that ``text`` defines: ``Name <attributes> (inputs) => (outputs) { nodes }``."""
    return onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["" : {OPSET}]>\n{text}')


def finite_magnitude(x: str, flat: str) -> str:
    """Lines that make `magnitude`, that of ``flat``, and its largest element `m` (0 if there are none).

    A tensor with NaN or infinity is refused: `any_bad` is 1 then, past the end of the one-element table, so
    that the Gather fails, and ONNX Runtime's error names that node, and so ``x``. Concat with `no_element`,
    one zero, because ONNX Runtime refuses to reduce an empty tensor; `largest` is the largest float32.
    """
    return f"""
    magnitude = Abs ({flat})
    magnitudes = Concat <axis = 0> (magnitude, no_element)
    finite = LessOrEqual (magnitudes, largest)
    not_finite = Not (finite)
    bad = Cast <to = 1> (not_finite)
    worst = ReduceMax <keepdims = 0> (bad)
    any_bad = Cast <to = 7> (worst)
    largest_magnitude = ReduceMax <keepdims = 1> (magnitudes)
    [{x}_has_nan_or_infinity] m = Gather (largest_magnitude, any_bad)
"""


# What scale rules begin with: x as a vector, its magnitudes, the largest of them.
LARGEST_MAGNITUDE = f"""
    minus_one = Constant <value_ints = [-1]> ()
    no_element = Constant <value = float[1] {{0}}> ()
    largest = Constant <value = float {{3.4028235e38}}> ()
    element_count = Size (x)
    count_column = Reshape (element_count, minus_one)
    flat_x = Reshape <allowzero = 1> (x, count_column)
    {finite_magnitude("x", "flat_x")}
"""

# `accepted`: per element, that x is finite and that `{scale}` is finite and positive.
ACCEPTED = """
    largest = Constant <value = float {{3.4028235e38}}> ()
    nought = Constant <value = float {{0}}> ()
    size = Abs (x)
    x_finite = LessOrEqual (size, largest)
    scale_positive = Greater ({scale}, nought)
    scale_finite = LessOrEqual ({scale}, largest)
    scale_good = And (scale_positive, scale_finite)
    accepted = And (x_finite, scale_good)
"""

# `codes` from float `code` in {lo}..{hi}: where not accepted, the index is past the end of the table.
CODES = """
    table = Constant <value_floats = {table}> ()
    refused = Constant <value = float {{16}}> ()
    lowest = Constant <value = float {{{lo}}}> ()
    unit = Constant <value = float {{1}}> ()
    from_zero = Sub (code, lowest)
    index = Where (accepted, from_zero, refused)
    place = Cast <to = 7> (index)
    [x_or_scale_is_not_finite] checked = Gather (table, place)
    codes = QuantizeLinear <output_dtype = {element_type}> (checked, unit)
"""

# `ratio`: the magnitude in units of the grid. The odd phase is the same rule with twice the scale, exactly.
PHASE_RATIO = """
    phase_number = Constant <value_int : int = @phase> ()
    phase_float = Cast <to = 1> (phase_number)
    factor = Add (one, phase_float)
    phase_scale = Mul (scale, factor)
    ratio = Div (size, phase_scale)
"""

UINT4 = 21
INT4 = 22


def codes(lo: int, hi: int, element_type: int) -> str:
    """The last lines of a quantiser: float ``code`` within lo..hi, checked, to 4-bit ``codes``."""
    table = [float(value) for value in range(lo, hi + 1)]
    return CODES.format(table=table, lo=lo, element_type=element_type)


def integers(codes: str, name: str) -> str:
    """Lines that read 4-bit ``codes`` as int64 `{name}_code`.

    DequantizeLinear with scale 1 stands for Cast, which ONNX Runtime 1.19.2 lacks for 4 bits.
    """
    return f"""
    {name}_unit = Constant <value = float {{1}}> ()
    {name}_float = DequantizeLinear ({codes}, {name}_unit)
    {name}_code = Cast <to = 7> ({name}_float)
"""


def values(codes: str, table: str, result: str) -> str:
    """Lines that read ``codes`` through the 16-entry attribute ``table``; int64, named ``result``.

    A negative INT4 code counts from the end of the table, which is the order of its nibbles.
    """
    return f"""
    {integers(codes, result)}
    {result}_table = Constant <value_ints : ints = @{table}> ()
    {result} = Gather ({result}_table, {result}_code)
"""


def two_phase_mean(even: str, odd: str, result: str) -> str:
    """Lines that make ``result``, int64, the mean of int64 codes of both phases of ``log4``.

    It is in units of `mean_scale`, which is made of `dy_scale`, the smallest level of the even grid.
    """
    return f"""
    even_table = Constant <value_ints = {list(log4.EVEN_PART)}> ()
    odd_table = Constant <value_ints = {list(log4.ODD_PART)}> ()
    even_part = Gather (even_table, {even})
    odd_part = Gather (odd_table, {odd})
    {result} = Add (even_part, odd_part)
    mean_unit = Constant <value = float {{{log4.MEAN_UNIT}}}> ()
    mean_scale = Mul (dy_scale, mean_unit)
"""


def rescale(scale_a: str, scale_b: str, result: str) -> str:
    """Lines that turn the integer ``total`` into ``result``: one rounding, then one multiplication."""
    return f"""
    sum = Cast <to = 1> (total)
    product_scale = Mul ({scale_a}, {scale_b})
    {result} = Mul (sum, product_scale)
"""


def inverse_std(result: str) -> str:
    """Lines that make ``result`` = 1 / sqrt(var_double + epsilon), in float64, then rounded."""
    return f"""
    epsilon_float = Constant <value_float : float = @epsilon> ()
    epsilon_double = Cast <to = 11> (epsilon_float)
    guarded = Add (var_double, epsilon_double)
    std = Sqrt (guarded)
    one_double = Constant <value = double {{1}}> ()
    inv_std_double = Div (one_double, std)
    {result} = Cast <to = 1> (inv_std_double)
"""
