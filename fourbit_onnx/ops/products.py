"""4-bit products of matrices: codes and scales to a float tensor, through an exact integer sum.

``value = table[code] - zero_point``; ``result = float32(sum of value * value) * (scale * scale)``.
Why this built-in operator: MatMul in float64 is exact for any K that fits memory.
"""

from fourbit_onnx.ops.text import function, integers, rescale, two_phase_mean

_CONSTANTS = """
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    two = Constant <value = int64[1] {2}> ()
    minus_two = Constant <value = int64[1] {-2}> ()
    far = Constant <value = int64[1] {1000}> ()
"""


def _turned(codes: str, trans: str) -> str:
    """Lines that give ``codes`` as `{codes}_turned` [batch, rows, columns], transposed if ``trans`` is 1.

    Codes are transposed before the table is read: ONNX Runtime fuses a Transpose in front of MatMul, or
    of anything that it can swap with one, into an operator that it has not for float64. The branches
    leave their shape open: a named dimension would be taken to be the same for both operands.
    """
    return f"""
    {integers(codes, codes)}
    {codes}_shape = Shape ({codes}_code)
    {codes}_batch = Slice ({codes}_shape, zero, minus_two)
    {codes}_batch_padded = Concat <axis = 0> (one, {codes}_batch)
    {codes}_count = ReduceProd <keepdims = 1> ({codes}_batch_padded)
    {codes}_last = Slice ({codes}_shape, minus_two, far)
    {codes}_flat_shape = Concat <axis = 0> ({codes}_count, {codes}_last)
    {codes}_flat = Reshape <allowzero = 1> ({codes}_code, {codes}_flat_shape)
    {codes}_trans = Constant <value_int : int = @{trans}> ()
    {codes}_swap = Cast <to = 9> ({codes}_trans)
    {codes}_turned = If ({codes}_swap) <
        then_branch = swapped_{codes} () => (int64[] t_{codes}) {{
            t_{codes} = Transpose <perm = [0, 2, 1]> ({codes}_flat)
        }},
        else_branch = kept_{codes} () => (int64[] k_{codes}) {{
            k_{codes} = Identity ({codes}_flat)
        }}
    >
"""


def _matrices(operand: str) -> str:
    """Lines that give the values of ``operand`` in float64 as `{operand}_value` [batch, rows, columns]."""
    return f"""
    {_turned(operand, f"trans_{operand}")}
    {operand}_table = Constant <value_ints : ints = @{operand}_values> ()
    {operand}_integer = Gather ({operand}_table, {operand}_turned)
    {operand}_double = Cast <to = 11> ({operand}_integer)
    {operand}_zero = Cast <to = 11> ({operand}_zero_point)
    {operand}_value = Sub ({operand}_double, {operand}_zero)
"""


def _total(a: str, product: str) -> str:
    """Lines that make the sums `total` of ``product`` [batch, rows, columns], in the batch shape of ``a``."""
    return f"""
    product_shape = Shape ({product})
    product_last = Slice (product_shape, one, far)
    y_shape = Concat <axis = 0> ({a}_batch, product_last)
    found = Reshape <allowzero = 1> ({product}, y_shape)
    a_size = Size ({a}_flat)                    # MatMul leaves its output unset if there is nothing to sum
    nothing = Constant <value = int64 {{0}}> ()
    empty = Equal (a_size, nothing)
    nought = Constant <value = double {{0}}> ()
    total = Where (empty, nought, found)
"""


_MATMUL = f"""
    {_CONSTANTS}
    {_matrices("a")}
    {_matrices("b")}
    product = MatMul (a_value, b_value)
    {_total("a", "product")}
"""

Q_MATMUL = function(f"""
QMatMul <a_values, b_values, trans_a : int = 0, trans_b : int = 0>
    (a, a_scale, a_zero_point, b, b_scale, b_zero_point) => (y) {{
    {_MATMUL}
    {rescale("a_scale", "b_scale", "y")}
}}
""")

Q_MATMUL_BIAS = function(f"""
QMatMulBias <a_values, b_values, trans_a : int = 0, trans_b : int = 0>
    (a, a_scale, a_zero_point, b, b_scale, b_zero_point, bias) => (y) {{
    {_MATMUL}
    {rescale("a_scale", "b_scale", "unbiased")}
    y = Add (unbiased, bias)
}}
""")

Q_MATMUL_TWO_PHASE = function(f"""
QMatMulTwoPhase <a_values, trans_a : int = 0, trans_dy : int = 0, trans_y : int = 0>
    (a, a_scale, a_zero_point, dy_even, dy_odd, dy_scale) => (y) {{
    {_CONSTANTS}
    {_matrices("a")}
    {_turned("dy_even", "trans_dy")}
    {_turned("dy_odd", "trans_dy")}
    {two_phase_mean("dy_even_turned", "dy_odd_turned", "dy_integer")}
    dy_value = Cast <to = 11> (dy_integer)
    straight = MatMul (a_value, dy_value)
    trans = Constant <value_int : int = @trans_y> ()
    swap = Cast <to = 9> (trans)
    product = If (swap) <
        then_branch = swapped_y () => (double[] t_y) {{
            t_y = Transpose <perm = [0, 2, 1]> (straight)
        }},
        else_branch = kept_y () => (double[] k_y) {{
            k_y = Identity (straight)
        }}
    >
    {_total("a", "product")}
    {rescale("a_scale", "mean_scale", "y")}
}}
""")
