"""4-bit products of matrices: codes and scales to a float tensor, through an exact integer sum.

``value = table[code] - zero_point``; ``result = float32(sum of value * value) * (scale * scale)``.
Why this built-in operator: MatMul in float64 is exact for any K that fits memory.
"""

from fourbit_onnx.ops.text import function, rescale


def _matrices(operand: str) -> str:
    """Lines that give the values of ``operand`` in float64 as `{operand}_value` [batch, rows, columns].

    Codes are transposed before the table is read: ONNX Runtime fuses a Transpose in front of MatMul, or
    of anything that it can swap with one, into an operator that it has not for float64. The branches
    leave their shape open: a named dimension would be taken to be the same for both operands.
    """
    return f"""
    {operand}_unit = Constant <value = float {{1}}> ()
    {operand}_float = DequantizeLinear ({operand}, {operand}_unit)
    {operand}_code = Cast <to = 7> ({operand}_float)
    {operand}_shape = Shape ({operand}_code)
    {operand}_batch = Slice ({operand}_shape, zero, minus_two)
    {operand}_batch_padded = Concat <axis = 0> (one, {operand}_batch)
    {operand}_count = ReduceProd <keepdims = 1> ({operand}_batch_padded)
    {operand}_last = Slice ({operand}_shape, minus_two, far)
    {operand}_flat_shape = Concat <axis = 0> ({operand}_count, {operand}_last)
    {operand}_flat = Reshape <allowzero = 1> ({operand}_code, {operand}_flat_shape)
    {operand}_trans = Constant <value_int : int = @trans_{operand}> ()
    {operand}_swap = Cast <to = 9> ({operand}_trans)
    {operand}_turned = If ({operand}_swap) <
        then_branch = swapped_{operand} () => (int64[] t_{operand}) {{
            t_{operand} = Transpose <perm = [0, 2, 1]> ({operand}_flat)
        }},
        else_branch = kept_{operand} () => (int64[] k_{operand}) {{
            k_{operand} = Identity ({operand}_flat)
        }}
    >
    {operand}_table = Constant <value_ints : ints = @{operand}_values> ()
    {operand}_integer = Gather ({operand}_table, {operand}_turned)
    {operand}_double = Cast <to = 11> ({operand}_integer)
    {operand}_zero = Cast <to = 11> ({operand}_zero_point)
    {operand}_value = Sub ({operand}_double, {operand}_zero)
"""


def _product_of_matrices(result: str) -> str:
    """Lines that multiply the matrices a and b, and rescale to ``result``."""
    return f"""
    zero = Constant <value = int64[1] {{0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    two = Constant <value = int64[1] {{2}}> ()
    minus_two = Constant <value = int64[1] {{-2}}> ()
    far = Constant <value = int64[1] {{1000}}> ()
    {_matrices("a")}
    {_matrices("b")}
    product = MatMul (a_value, b_value)
    product_shape = Shape (product)
    product_last = Slice (product_shape, one, far)
    y_shape = Concat <axis = 0> (a_batch, product_last)
    found = Reshape <allowzero = 1> (product, y_shape)
    a_size = Size (a_flat)                      # MatMul leaves its output unset if there is nothing to sum
    nothing = Constant <value = int64 {{0}}> ()
    empty = Equal (a_size, nothing)
    nought = Constant <value = double {{0}}> ()
    total = Where (empty, nought, found)
    {rescale("a_scale", "b_scale", result)}
"""


Q_MATMUL = function(f"""
QMatMul <a_values, b_values, trans_a : int = 0, trans_b : int = 0>
    (a, a_scale, a_zero_point, b, b_scale, b_zero_point) => (y) {{
    {_product_of_matrices("y")}
}}
""")

Q_MATMUL_BIAS = function(f"""
QMatMulBias <a_values, b_values, trans_a : int = 0, trans_b : int = 0>
    (a, a_scale, a_zero_point, b, b_scale, b_zero_point, bias) => (y) {{
    {_product_of_matrices("unbiased")}
    y = Add (unbiased, bias)
}}
""")
