"""The lines of a function body that evaluate an `OddRatio` (``ops/reference/odd_ratio.py``)."""

import numpy as np

from fourbit_onnx.ops.reference.odd_ratio import OddRatio


def constant(name: str, number: float) -> str:
    """A line that makes the scalar ``name``."""
    return f"{name} = Constant <value = float {{{np.float32(number)!s}}}> ()"


def _polynomial(name: str, s: str, coefficients: tuple[float, ...]) -> str:
    """Lines that make ``name`` of ``s``, by Horner's rule."""
    lines = [constant(f"{name}_{i}", value) for i, value in enumerate(coefficients)]
    total = f"{name}_{len(coefficients) - 1}"
    for i in reversed(range(len(coefficients) - 1)):
        result = f"{name}_to_{i}" if i else name
        lines += [f"{name}_times_{i} = Mul ({total}, {s})", f"{result} = Add ({name}_times_{i}, {name}_{i})"]
        total = result
    return "\n    ".join(lines)


def odd_ratio(table: OddRatio, x: str, result: str) -> str:
    """Lines that make ``result`` of ``x``, and ``{result}_bounded``, x from below."""
    return f"""
    {constant(f"{result}_limit", float(table.limit))}
    {result}_lowest = Neg ({result}_limit)
    {result}_below = Less ({x}, {result}_lowest)
    {result}_bounded = Where ({result}_below, {result}_lowest, {x})
    {result}_above = Greater ({result}_bounded, {result}_limit)
    {result}_t = Where ({result}_above, {result}_limit, {result}_bounded)
    {result}_s = Mul ({result}_t, {result}_t)
    {_polynomial(f"{result}_p", f"{result}_s", table.p)}
    {_polynomial(f"{result}_q", f"{result}_s", table.q)}
    {result}_ratio = Div ({result}_p, {result}_q)
    {result} = Mul ({result}_t, {result}_ratio)
"""
