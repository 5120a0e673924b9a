"""Sums as trees: how a function body states an order of additions that vectors and threads can follow.

``halves`` adds the second half of a row to its first, until one number is left: what vectors do fastest.
``pairs`` adds row 1 to row 0, row 3 to row 2 and so on, until one row is left: what can be done while rows
come in. Of an odd number the one in the middle, or the last row, stays alone: -0 is added to it, which
changes nothing. A sum of k terms has log2(k) roundings, not k.
"""

# What the lines of both need, once a body.
CONSTANTS = """
    zero = Constant <value = int64[1] {0}> ()
    one = Constant <value = int64[1] {1}> ()
    two = Constant <value = int64[1] {2}> ()
    nought = Constant <value = float {0}> ()
    minus_nought = Neg (nought)
"""


def halves(result: str, terms: str) -> str:
    """Lines that make ``result``, a column, of the rows of the matrix ``terms``."""
    first, second = "Slice (part, zero, count, one)", "Slice (part, count, all, one)"
    return _sum(result, terms, "one", first, second, "zero, zero, zero, missing")


def pairs(result: str, terms: str) -> str:
    """Lines that make ``result``, a matrix of one row, of all rows of the matrix ``terms``."""
    first, second = "Slice (part, zero, all, zero, two)", "Slice (part, one, all, zero, two)"
    return _sum(result, terms, "zero", first, second, "zero, zero, missing, zero")


def _sum(result: str, terms: str, axis: str, first: str, second: str, pads: str) -> str:
    """``first`` and ``second`` are added to each other; ``pads``: what the second lacks on each side."""
    return f"""
    {result}_shape = Shape ({terms})
    {result}_count = Gather ({result}_shape, {axis})
    {result}_several = Greater ({result}_count, one)
    {result}_go = Squeeze ({result}_several)
    {result} = Loop ("", {result}_go, {terms}) <body = {result}_round (int64 i, bool go, float[] part)
        => (bool more, float[] next) {{
        shape = Shape (part)
        all = Gather (shape, {axis})
        all_and_one = Add (all, one)
        count = Div (all_and_one, two)
        twice = Add (count, count)
        missing = Sub (twice, all)
        first = {first}
        second = {second}
        pads = Concat <axis = 0> ({pads})
        whole = Pad (second, pads, minus_nought)
        next = Add (first, whole)
        several = Greater (count, one)
        more = Squeeze (several)
    }}>
"""
