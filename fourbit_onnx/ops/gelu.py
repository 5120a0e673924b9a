"""GELU and its gradient without a function of the C library, so that they have the same bits everywhere.

The formulas, their coefficients and what they are worth are in ``ops/reference/gelu.py``.
"""

import numpy as np

from fourbit_onnx.ops.reference.gelu import CDF, SLOPE, OddRatio
from fourbit_onnx.ops.text import function


def _constant(name: str, number: float) -> str:
    return f"{name} = Constant <value = float {{{np.float32(number)!s}}}> ()"


def _polynomial(name: str, coefficients: tuple[float, ...]) -> str:
    """Lines that make ``name`` of ``s``, by Horner's rule."""
    lines = [_constant(f"{name}_{i}", value) for i, value in enumerate(coefficients)]
    total = f"{name}_{len(coefficients) - 1}"
    for i in reversed(range(len(coefficients) - 1)):
        result = f"{name}_to_{i}" if i else name
        lines += [f"{name}_times_{i} = Mul ({total}, s)", f"{result} = Add ({name}_times_{i}, {name}_{i})"]
        total = result
    return "\n    ".join(lines)


def _ratio(table: OddRatio) -> str:
    """Lines that make ``bounded``, x from below, and ``value`` of ``x``."""
    return f"""
    {_constant("limit", float(table.limit))}
    {_constant("half", 0.5)}
    lowest = Neg (limit)
    below = Less (x, lowest)
    bounded = Where (below, lowest, x)
    above = Greater (bounded, limit)
    t = Where (above, limit, bounded)
    s = Mul (t, t)
    {_polynomial("p", table.p)}
    {_polynomial("q", table.q)}
    ratio = Div (p, q)
    odd = Mul (t, ratio)
    value = Add (half, odd)
"""


GELU = function(f"""
Gelu (x) => (y) {{
    {_ratio(CDF)}
    y = Mul (bounded, value)
}}
""")

GELU_GRAD = function(f"""
GeluGrad (dy, x) => (dx) {{
    {_ratio(SLOPE)}
    dx = Mul (dy, value)
}}
""")
