"""The product of block-quantised operands: exact, whatever the order of summation.

    y[m, n] = float32(sum over k of A[m, k] * B[n, k]) * a_scale * b_scale,   A = table[code] * block scale

Both operands have the summed axis last, and blocks along it: no transposition is an attribute. |A| is at most
12 * 2**18. A float64 product is exact while its sum is below 2**53, for up to 910 terms; longer ones are
made of two, of the eleven low bits of A and of the rest, and added in int64: up to 932,067 terms.
"""

from fourbit_onnx.ops.text import function, integers

# 2**53 // (12 * 2**18) ** 2
ONE_PRODUCT = 910


def _operand(name: str) -> str:
    """Lines that flatten the codes and block scales of an operand to [batch, rows, ...], float codes."""
    return f"""
    {integers(name, name)}
    {name}_shape = Shape ({name}_code)
    {name}_outer = Slice ({name}_shape, zero, minus_two)
    {name}_outer_or_one = Concat <axis = 0> (one, {name}_outer)
    {name}_batch = ReduceProd <keepdims = 1> ({name}_outer_or_one)
    {name}_rows = Slice ({name}_shape, minus_two, minus_one)
    {name}_depth = Slice ({name}_shape, minus_one, far)
    {name}_scales_shape = Shape ({name}_block_scale)
    {name}_blocks = Slice ({name}_scales_shape, minus_one, far)
    {name}_flat_shape = Concat <axis = 0> ({name}_batch, {name}_rows, {name}_depth)
    {name}_flat = Reshape <allowzero = 1> ({name}_code, {name}_flat_shape)
    {name}_scales_flat_shape = Concat <axis = 0> ({name}_batch, {name}_rows, {name}_blocks)
    {name}_scales_double = Cast <to = 11> ({name}_block_scale)
    {name}_scales = Reshape <allowzero = 1> ({name}_scales_double, {name}_scales_flat_shape)
    {name}_table_integer = Constant <value_ints : ints = @{name}_values> ()
    {name}_table = Cast <to = 11> ({name}_table_integer)
    {name}_full_depth = Mul ({name}_blocks, size)
"""


# b is transposed before the table is read and the scales repeated: ONNX Runtime fuses a Transpose that it can
# bring in front of a MatMul into an operator that it has not for float64.
Q_BLOCK_MATMUL = function(f"""
QBlockMatMul <a_values, b_values, size : int = 16>
    (a, a_block_scale, a_scale, b, b_block_scale, b_scale) => (y) {{
    zero = Constant <value = int64[1] {{0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    minus_one = Constant <value = int64[1] {{-1}}> ()
    minus_two = Constant <value = int64[1] {{-2}}> ()
    far = Constant <value = int64[1] {{1000}}> ()
    size_number = Constant <value_int : int = @size> ()
    size = Reshape (size_number, one)
    {_operand("a")}
    {_operand("b")}
    a_level = Gather (a_table, a_flat)
    a_column = Unsqueeze (a_scales, minus_one)
    a_repeated = Expand (a_column, size)
    a_wide_shape = Concat <axis = 0> (a_batch, a_rows, a_full_depth)
    a_wide = Reshape <allowzero = 1> (a_repeated, a_wide_shape)
    a_step = Slice (a_wide, zero, a_depth, minus_one)
    a_value = Mul (a_level, a_step)
    b_turned = Transpose <perm = [0, 2, 1]> (b_flat)
    b_level = Gather (b_table, b_turned)
    b_scales_turned = Transpose <perm = [0, 2, 1]> (b_scales)
    b_column = Unsqueeze (b_scales_turned, minus_two)
    size_column_shape = Concat <axis = 0> (size, one)
    b_repeated = Expand (b_column, size_column_shape)
    b_wide_shape = Concat <axis = 0> (b_batch, b_full_depth, b_rows)
    b_wide = Reshape <allowzero = 1> (b_repeated, b_wide_shape)
    b_step = Slice (b_wide, zero, b_depth, minus_two)
    b_value = Mul (b_level, b_step)
    short_depth = Constant <value = int64[1] {{{ONE_PRODUCT}}}> ()
    fits_column = LessOrEqual (a_depth, short_depth)
    fits = Squeeze (fits_column, zero)
    product = If (fits) <
        then_branch = short () => (int64[] t) {{
            whole = MatMul (a_value, b_value)
            t = Cast <to = 7> (whole)
        }},
        else_branch = long () => (int64[] u) {{
            eleven_bits = Constant <value = double {{2048}}> ()
            eleven = Constant <value = int64 {{2048}}> ()
            parts = Div (a_value, eleven_bits)
            high = Floor (parts)
            high_part = Mul (high, eleven_bits)
            low = Sub (a_value, high_part)
            high_product = MatMul (high, b_value)
            low_product = MatMul (low, b_value)
            high_integer = Cast <to = 7> (high_product)
            low_integer = Cast <to = 7> (low_product)
            high_scaled = Mul (high_integer, eleven)
            u = Add (high_scaled, low_integer)
        }}
    >
    y_shape = Concat <axis = 0> (a_outer, a_rows, b_rows)
    found = Reshape <allowzero = 1> (product, y_shape)
    a_size = Size (a_flat)                      # MatMul leaves its output unset if there is nothing to sum
    nothing = Constant <value = int64 {{0}}> ()
    empty = Equal (a_size, nothing)
    total = Where (empty, nothing, found)
    sum = Cast <to = 1> (total)
    in_a = Mul (sum, a_scale)                   # one after the other: their product may underflow
    y = Mul (in_a, b_scale)
}}
""")
