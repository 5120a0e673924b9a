"""Random numbers as a function of a counter: the same after a resume, on any number of threads."""

from fourbit_onnx.ops.text import function

_WORD = 4294967296  # 2**32


def _mix(h: str, result: str) -> str:
    """Lines that scramble the 32-bit ``h``, held in int64.

    Shift, multiply, shift, multiply, shift: a bijection whose constants are odd and below 2**31, so that
    every product fits int64. (The multipliers are those found by C. Wellons' hash prospector.)
    """
    return f"""
    {result}_s1 = Div ({h}, two16)
    {result}_s2 = BitwiseXor ({h}, {result}_s1)
    {result}_s3 = Mul ({result}_s2, first_factor)
    {result}_s4 = Mod ({result}_s3, word)
    {result}_s5 = Div ({result}_s4, two15)
    {result}_s6 = BitwiseXor ({result}_s4, {result}_s5)
    {result}_s7 = Mul ({result}_s6, second_factor)
    {result}_s8 = Mod ({result}_s7, word)
    {result}_s9 = Div ({result}_s8, two15)
    {result} = BitwiseXor ({result}_s8, {result}_s9)
"""


# key = mix(mix(mix(counter low) ^ counter high) ^ stream);
# h = mix(mix(i low ^ mix(key ^ 1)) ^ i high ^ mix(key ^ 2))
RANDOM_UNIFORM = function(f"""
RandomUniform <stream : int = 0> (shape, counter) => (u) {{
    two15 = Constant <value = int64 {{32768}}> ()
    two16 = Constant <value = int64 {{65536}}> ()
    word = Constant <value = int64 {{{_WORD}}}> ()
    first_factor = Constant <value = int64 {{{0x21F0AAAD}}}> ()
    second_factor = Constant <value = int64 {{{0x735A2D97}}}> ()
    zero = Constant <value = int64 {{0}}> ()
    one = Constant <value = int64 {{1}}> ()
    two = Constant <value = int64 {{2}}> ()
    one_element = Constant <value = int64[1] {{1}}> ()
    stream_number = Constant <value_int : int = @stream> ()
    counter_low = Mod (counter, word)
    counter_high = Div (counter, word)
    {_mix("counter_low", "key_1")}
    key_2 = BitwiseXor (key_1, counter_high)
    {_mix("key_2", "key_3")}
    key_4 = BitwiseXor (key_3, stream_number)
    {_mix("key_4", "key")}
    low_key_in = BitwiseXor (key, one)
    high_key_in = BitwiseXor (key, two)
    {_mix("low_key_in", "low_key")}
    {_mix("high_key_in", "high_key")}
    sizes = Concat <axis = 0> (shape, one_element)
    count = ReduceProd <keepdims = 0> (sizes)
    i = Range (zero, count, one)
    i_low = Mod (i, word)
    i_high = Div (i, word)
    low_in = BitwiseXor (i_low, low_key)
    {_mix("low_in", "low")}
    high_part = BitwiseXor (i_high, high_key)
    h_in = BitwiseXor (low, high_part)
    {_mix("h_in", "h")}
    byte = Constant <value = int64 {{256}}> ()
    bits24 = Div (h, byte)
    whole = Cast <to = 1> (bits24)
    unit = Constant <value = float {{0.000000059604644775390625}}> ()   # 2**-24
    flat = Mul (whole, unit)
    u = Reshape <allowzero = 1> (flat, shape)
}}
""")
