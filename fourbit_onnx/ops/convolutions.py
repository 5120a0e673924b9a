"""4-bit convolutions and their gradients: codes and scales to a float tensor, through an exact integer sum.

``value = table[code] - zero_point``; ``result = float32(sum of value * value) * (scale * scale)``.
Padding contributes the value 0. Gradients have no zero point; their values are split into two
planes, ``high = trunc(v / 64)`` and ``low = v - 64 * high``, of 8 bits each.

Why these built-in operators: ConvInteger sums in int32, exact for 15 * 64 * K < 2**31, K < 2.2
million; ConvTranspose has only a float32 kernel, exact while 15 * 64 * K < 2**24, K < 17,476 (K =
output channels per group times kernel elements).
"""

from fourbit_onnx.ops.text import function, integers, rescale, two_phase_mean, values

_CONV = """
        <strides : ints = @strides, pads : ints = @pads, dilations : ints = @dilations,
         group : int = @group>"""

_UNPADDED = """
        <strides : ints = @strides, dilations : ints = @dilations, group : int = @group>"""

# The other branch of a correction for zero points: there is nothing to correct.
_SYMMETRIC = """else_branch = symmetric () => (int64[] d) {
            none = Constant <value = int64 {0}> ()
            d = Mul (codes_sum, none)
        }"""


def _bytes(value: str, offset: int, result: str) -> str:
    """Lines that shift int64 ``value`` by ``offset``, the zero point, into uint8 ``result``."""
    return f"""
    {result}_offset = Constant <value = int64 {{{offset}}}> ()
    {result}_shifted = Add ({value}, {result}_offset)
    {result} = Cast <to = 2> ({result}_shifted)
    {result}_zero = Constant <value = uint8 {{{offset}}}> ()
"""


def _planes(value: str) -> str:
    """Lines that split int64 ``value`` into ``low`` and ``high``."""
    return f"""
    sixty_four = Constant <value = int64 {{64}}> ()
    high = Div ({value}, sixty_four)
    high_part = Mul (high, sixty_four)
    low = Sub ({value}, high_part)
"""


def _nonzero(*zero_points: str) -> str:
    """Lines that say in ``has_zero_point`` whether any of the zero points is not 0."""
    lines = ["    no_zero_point = Constant <value = int32 {0}> ()"]
    for name in zero_points:
        lines += [f"    {name}_none = Equal ({name}, no_zero_point)", f"    {name}_some = Not ({name}_none)"]
        lines += [f"    {name}_wide = Cast <to = 7> ({name})"]
    if len(zero_points) == 1:
        lines += [f"    has_zero_point = Identity ({zero_points[0]}_some)"]
    else:
        lines += [f"    has_zero_point = Or ({zero_points[0]}_some, {zero_points[1]}_some)"]
    return "\n".join(lines)


# sum (x - zx)(w - zw) = sum x w - zx sum w - zw sum x + zx zw sum 1, over the elements that are not padding.
Q_CONV = function(f"""
QConv <strides, pads, dilations, group, x_values, w_values>
    (x, x_scale, x_zero_point, w, w_scale, w_zero_point) => (y) {{
    {values("x", "x_values", "xv")}
    {values("w", "w_values", "wv")}
    {_bytes("xv", 8, "xb")}
    {_bytes("wv", 8, "wb")}
    sum32 = ConvInteger {_CONV} (xb, wb, xb_zero, wb_zero)
    codes_sum = Cast <to = 7> (sum32)
    {_nonzero("x_zero_point", "w_zero_point")}
    correction = If (has_zero_point) <
        then_branch = affine () => (int64[] c) {{
            one_byte = Constant <value = uint8 {{9}}> ()
            x_shape = Shape (xb)
            w_shape = Shape (wb)
            x_ones = Expand (one_byte, x_shape)
            w_ones = Expand (one_byte, w_shape)
            w_sum32 = ConvInteger {_CONV} (x_ones, wb, xb_zero, wb_zero)
            x_sum32 = ConvInteger {_CONV} (xb, w_ones, xb_zero, wb_zero)
            count32 = ConvInteger {_CONV} (x_ones, w_ones, xb_zero, wb_zero)
            w_sum = Cast <to = 7> (w_sum32)
            x_sum = Cast <to = 7> (x_sum32)
            count = Cast <to = 7> (count32)
            w_part = Mul (w_sum, x_zero_point_wide)
            x_part = Mul (x_sum, w_zero_point_wide)
            both = Mul (x_zero_point_wide, w_zero_point_wide)
            both_part = Mul (count, both)
            parts = Add (w_part, x_part)
            c = Sub (parts, both_part)
        }},
        {_SYMMETRIC}
    >
    total = Sub (codes_sum, correction)
    {rescale("x_scale", "w_scale", "y")}
}}
""")

# `dyv` of dy in two phases.
_TWO_PHASES = f"""
    {integers("dy_even", "dy_even")}
    {integers("dy_odd", "dy_odd")}
    {two_phase_mean("dy_even_code", "dy_odd_code", "dyv")}
"""

# ConvTranspose without pads gives every position that an input element may have touched; what pads
# cut off at the beginning, and what no window reached at the end, is put right by Pad and Slice.
_INPUT_GRAD = f"""
    {values("w", "w_values", "wv")}
    {_planes("dyv")}
    low_float = Cast <to = 1> (low)
    high_float = Cast <to = 1> (high)
    w_float = Cast <to = 1> (wv)
    low_sum = ConvTranspose {_UNPADDED} (low_float, w_float)
    high_sum = ConvTranspose {_UNPADDED} (high_float, w_float)
    low_total = Cast <to = 7> (low_sum)
    high_total = Cast <to = 7> (high_sum)
    high_scaled = Mul (high_total, sixty_four)
    codes_sum = Add (low_total, high_scaled)
    {_nonzero("w_zero_point")}
    correction = If (has_zero_point) <
        then_branch = affine () => (int64[] c) {{
            one = Constant <value = float {{1}}> ()
            w_shape = Shape (w_float)
            w_ones = Expand (one, w_shape)
            low_ones = ConvTranspose {_UNPADDED} (low_float, w_ones)
            high_ones = ConvTranspose {_UNPADDED} (high_float, w_ones)
            low_count = Cast <to = 7> (low_ones)
            high_count = Cast <to = 7> (high_ones)
            high_weighted = Mul (high_count, sixty_four)
            dy_sum = Add (low_count, high_weighted)
            c = Mul (dy_sum, w_zero_point_wide)
        }},
        {_SYMMETRIC}
    >
    full = Sub (codes_sum, correction)

    zero = Constant <value = int64[1] {{0}}> ()
    two = Constant <value = int64[1] {{2}}> ()
    all_pads = Constant <value_ints : ints = @pads> ()
    pads_count = Size (all_pads)
    pads_column = Unsqueeze (pads_count, zero)
    spatial = Div (pads_column, two)
    begins = Slice (all_pads, zero, spatial)
    rank = Add (spatial, two)
    x_spatial = Slice (x_shape, two, rank)
    ends = Add (begins, x_spatial)
    full_shape = Shape (full)
    full_spatial = Slice (full_shape, two, rank)
    lacking = Sub (ends, full_spatial)
    no_rows = Constant <value = int64 {{0}}> ()
    extra = Max (lacking, no_rows)
    before = ConstantOfShape <value = int64[1] {{0}}> (rank)
    outer = ConstantOfShape <value = int64[1] {{0}}> (two)
    amounts = Concat <axis = 0> (before, outer, extra)
    padded = Pad (full, amounts)
    first_axis = Constant <value = int64 {{2}}> ()
    step = Constant <value = int64 {{1}}> ()
    flat_zero = Squeeze (rank)
    axes = Range (first_axis, flat_zero, step)
    total = Slice (padded, begins, ends, axes)
"""

Q_CONV_INPUT_GRAD = function(f"""
QConvInputGrad <strides, pads, dilations, group, dy_values, w_values>
    (dy, dy_scale, w, w_scale, w_zero_point, x_shape) => (dx) {{
    {values("dy", "dy_values", "dyv")}
    {_INPUT_GRAD}
    {rescale("dy_scale", "w_scale", "dx")}
}}
""")

Q_CONV_INPUT_GRAD_TWO_PHASE = function(f"""
QConvInputGradTwoPhase <strides, pads, dilations, group, w_values>
    (dy_even, dy_odd, dy_scale, w, w_scale, w_zero_point, x_shape) => (dx) {{
    {_TWO_PHASES}
    {_INPUT_GRAD}
    {rescale("mean_scale", "w_scale", "dx")}
}}
""")


def _weight_grad_sum(x: str, result: str) -> str:
    """Lines that sum ``x`` times both planes of dy over batch and positions; int64 ``result``."""
    conv = """
        <strides : ints = @dilations, pads : ints = @pads, dilations : ints = @strides,
         group : int = @group>"""
    return f"""
    {result}_low32 = ConvInteger {conv} ({x}, low_kernel, xb_zero, low_byte_zero)
    {result}_high32 = ConvInteger {conv} ({x}, high_kernel, xb_zero, high_byte_zero)
    {result}_low = Cast <to = 7> ({result}_low32)
    {result}_high = Cast <to = 7> ({result}_high32)
    {result}_high_scaled = Mul ({result}_high, sixty_four)
    {result} = Add ({result}_low, {result}_high_scaled)
"""


# A convolution of x with dy as its kernel: channels and batch change places, strides and dilations too.
# x [N, G*c, S] -> [c, G*N, S]; dy [N, G*o, P] -> [G*o, N, P]; result [c, G*o, K] -> [G*o, c, K].
_WEIGHT_GRAD = f"""
    {_planes("dyv")}
    {_bytes("xv", 8, "x_byte")}
    xb_zero = Identity (x_byte_zero)
    {_bytes("low", 64, "low_byte")}
    {_bytes("high", 64, "high_byte")}
    group_number = Constant <value_int : int = @group> ()
    zero = Constant <value = int64[1] {{0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    two = Constant <value = int64[1] {{2}}> ()
    far = Constant <value = int64[1] {{1000}}> ()
    groups = Unsqueeze (group_number, zero)
    x_shape = Shape (xv)
    dy_shape = Shape (dyv)
    batch = Slice (x_shape, zero, one)
    channels = Slice (x_shape, one, two)
    inputs = Div (channels, groups)
    x_spatial = Slice (x_shape, two, far)
    x_positions = ReduceProd <keepdims = 1> (x_spatial)
    outputs = Slice (dy_shape, one, two)
    group_outputs = Div (outputs, groups)
    dy_spatial = Slice (dy_shape, two, far)
    dy_positions = ReduceProd <keepdims = 1> (dy_spatial)
    x_split_shape = Concat <axis = 0> (batch, groups, inputs, x_positions)
    x_split = Reshape <allowzero = 1> (x_byte, x_split_shape)
    x_turned = Transpose <perm = [2, 1, 0, 3]> (x_split)
    groups_batch = Mul (groups, batch)
    x_image_shape = Concat <axis = 0> (inputs, groups_batch, x_spatial)
    xb = Reshape <allowzero = 1> (x_turned, x_image_shape)
    dy_split_shape = Concat <axis = 0> (batch, groups, group_outputs, dy_positions)
    kernel_shape = Concat <axis = 0> (outputs, batch, dy_spatial)
    low_split = Reshape <allowzero = 1> (low_byte, dy_split_shape)
    low_turned = Transpose <perm = [1, 2, 0, 3]> (low_split)
    low_kernel = Reshape <allowzero = 1> (low_turned, kernel_shape)
    high_split = Reshape <allowzero = 1> (high_byte, dy_split_shape)
    high_turned = Transpose <perm = [1, 2, 0, 3]> (high_split)
    high_kernel = Reshape <allowzero = 1> (high_turned, kernel_shape)
    {_weight_grad_sum("xb", "codes_sum")}
    {_nonzero("x_zero_point")}
    correction = If (has_zero_point) <
        then_branch = affine () => (int64[] c) {{
            one_byte = Constant <value = uint8 {{9}}> ()
            image_shape = Shape (xb)
            x_ones = Expand (one_byte, image_shape)
            {_weight_grad_sum("x_ones", "dy_sum")}
            c = Mul (dy_sum, x_zero_point_wide)
        }},
        {_SYMMETRIC}
    >
    image = Sub (codes_sum, correction)
    kernel_spatial = Slice (w_shape, two, far)
    image_head = Slice (w_shape, zero, two)
    image_shape_now = Shape (image)
    rank = Size (image_shape_now)
    first_axis = Constant <value = int64 {{2}}> ()
    step = Constant <value = int64 {{1}}> ()
    axes = Range (first_axis, rank, step)
    starts = Mul (kernel_spatial, zero)
    cut = Slice (image, starts, kernel_spatial, axes)
    taps = ReduceProd <keepdims = 1> (kernel_spatial)
    cut_shape = Concat <axis = 0> (inputs, outputs, taps)
    cut_flat = Reshape <allowzero = 1> (cut, cut_shape)
    turned = Transpose <perm = [1, 0, 2]> (cut_flat)
    found = Reshape <allowzero = 1> (turned, w_shape)
    element_count = Size (dyv)    # ConvInteger leaves its output unset if there is nothing to sum
    nothing = Constant <value = int64 {{0}}> ()
    empty = Equal (element_count, nothing)
    total = Where (empty, nothing, found)
"""

Q_CONV_WEIGHT_GRAD = function(f"""
QConvWeightGrad <strides, pads, dilations, group, x_values, dy_values>
    (x, x_scale, x_zero_point, dy, dy_scale, w_shape) => (dw) {{
    {values("x", "x_values", "xv")}
    {values("dy", "dy_values", "dyv")}
    {_WEIGHT_GRAD}
    {rescale("x_scale", "dy_scale", "dw")}
}}
""")

Q_CONV_WEIGHT_GRAD_TWO_PHASE = function(f"""
QConvWeightGradTwoPhase <strides, pads, dilations, group, x_values>
    (x, x_scale, x_zero_point, dy_even, dy_odd, dy_scale, w_shape) => (dw) {{
    {values("x", "x_values", "xv")}
    {_TWO_PHASES}
    {_WEIGHT_GRAD}
    {rescale("x_scale", "mean_scale", "dw")}
}}
""")
