"""Relu and Clip that also give the mask of their gradient, so that no float tensor is kept for it.

``Relu``: y is +0 where x < 0, else x: NaN and -0 stay what they are. The gradient passes where x > 0.
``Clip``: y is low where x < low, high where x > high, else x. The gradient passes where low <= x <= high.
"""

from fourbit_onnx.ops.masks import PACK_MASK, UNPACK_MASK
from fourbit_onnx.ops.text import function

_RECTIFY = f"""
    nought = Constant <value = float {{0}}> ()
    negative = Less (x, nought)
    y = Where (negative, nought, x)
    inside = Greater (x, nought)
    {PACK_MASK}
"""

RELU = function(f"""
Relu (x) => (y, mask) {{
    {_RECTIFY}
}}
""")

# Of two tensors of the same shape: the end of a residual block.
ADD_RELU = function(f"""
AddRelu (a, b) => (y, mask) {{
    x = Add (a, b)
    {_RECTIFY}
}}
""")

# ReLU6 and its like; low <= high.
CLIP = function(f"""
Clip <low : float = 0.0, high : float = 6.0> (x) => (y, mask) {{
    lowest = Constant <value_float : float = @low> ()
    highest = Constant <value_float : float = @high> ()
    below = Less (x, lowest)
    above = Greater (x, highest)
    capped = Where (above, highest, x)
    y = Where (below, lowest, capped)
    not_below = GreaterOrEqual (x, lowest)
    not_above = LessOrEqual (x, highest)
    inside = And (not_below, not_above)
    {PACK_MASK}
}}
""")

# Of Clip, too.
RELU_GRAD = function(f"""
ReluGrad (dy, mask) => (dx) {{
    {UNPACK_MASK}
    nought = Constant <value = float {{0}}> ()
    dx = Where (outside, nought, dy)
}}
""")

# Of a tensor that two operators read: two gradients of the same shape.
SUM_RELU_GRAD = function(f"""
SumReluGrad (dy, other, mask) => (dx) {{
    {UNPACK_MASK}
    nought = Constant <value = float {{0}}> ()
    sum = Add (dy, other)
    dx = Where (outside, nought, sum)
}}
""")
