"""Masks, one bit an element: the first in the lowest bit of the first byte, the bits of the tail 0."""


def _packed(booleans: str, mask: str) -> str:
    """Lines from ``booleans``, of the shape of `x`, to the bytes ``mask``, behind those of the sizes."""
    return f"""
    {mask}_float = Cast <to = 1> ({booleans})
    {mask}_flat = Reshape <allowzero = 1> ({mask}_float, count_column)
    {mask}_bits_flat = Concat <axis = 0> ({mask}_flat, tail)
    {mask}_bits = Reshape <allowzero = 1> ({mask}_bits_flat, bits_shape)
    {mask}_bytes = MatMul ({mask}_bits, weights)
    {mask}_bytes_flat = Reshape <allowzero = 1> ({mask}_bytes, byte_count)
    {mask} = Cast <to = 2> ({mask}_bytes_flat)
"""


# From the booleans `inside`, of the shape of `x`, to the bytes `mask`.
PACK_MASK = f"""
    minus_one = Constant <value_ints = [-1]> ()
    zero = Constant <value = int64[1] {{0}}> ()
    eight = Constant <value = int64[1] {{8}}> ()
    weights = Constant <value = float[8, 1] {{1, 2, 4, 8, 16, 32, 64, 128}}> ()
    element_count = Size (x)
    count_column = Reshape (element_count, minus_one)
    negated = Neg (count_column)
    missing = Mod (negated, eight)
    padded_count = Add (count_column, missing)
    byte_count = Div (padded_count, eight)
    bits_shape = Concat <axis = 0> (byte_count, eight)
    tail = ConstantOfShape <value = float[1] {{0}}> (missing)
    {_packed("inside", "mask")}
"""

# The same behind it, from the booleans `rounded_up` to the bytes `up`.
PACK_UP = _packed("rounded_up", "up")

# From the bytes `mask` to the booleans `outside`, of the shape of `dy`; `count_column` is their number.
UNPACK_MASK = """
    minus_one = Constant <value_ints = [-1]> ()
    zero_at = Constant <value = int64[1] {0}> ()
    powers = Constant <value = uint8[8] {1, 2, 4, 8, 16, 32, 64, 128}> ()
    shape = Shape (dy)
    element_count = Size (dy)
    count_column = Reshape (element_count, minus_one)
    bytes = Unsqueeze (mask, minus_one)
    bits = BitwiseAnd (bytes, powers)
    bits_count = Size (bits)
    bits_column = Reshape (bits_count, minus_one)
    bits_flat = Reshape <allowzero = 1> (bits, bits_column)
    taken = Slice (bits_flat, zero_at, count_column)
    bit = Reshape <allowzero = 1> (taken, shape)
    inside = Cast <to = 9> (bit)
    outside = Not (inside)
"""
