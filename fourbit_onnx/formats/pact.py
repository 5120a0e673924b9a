"""PACT: activations clipped at a trained alpha, then rounded to even steps.

    unsigned (``uint4``): y = clip(x, 0, alpha),       scale = alpha / 15
    signed   (``int4``):  y = clip(x, -alpha, alpha),  scale = alpha / 7

Unsigned, everything below 0 is 0, minus infinity too: a ReLU in front changes neither codes nor gradients.

Gradients, straight through inside the range (the open interval):

    dx     = dy inside, 0 outside
    dalpha = sum of dy where x >= alpha, minus the sum where x <= -alpha (signed)
             and with ``pact+``: plus the sum inside of dy * r / n,  r = +1/4 if x was rounded up, else -1/4,
             n = 15 or 7

Source: Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks", 2018.
Backward needs no activation: a clipped element is one outside the range whose code is an end of it.
Plain PACT knows what a clip costs that is too low, not what the coarse steps cost of one that is too high.
``pact+`` does: the derivative of a rounded element by alpha is (rint(z) - z) / n, z = x / scale (Esser et
al., "Learned Step Size Quantization", ICLR 2020). Of rint(z) - z one bit is kept, its sign; a quarter is the
mean magnitude where it is spread evenly from -1/2 to 1/2. An x on a level, so every 0 of a signed tensor,
counts as rounded down, though its remainder is 0.
Sums are fixed-point (``fixed_point``), so they do not depend on their order.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import checks, integer
from fourbit_onnx.formats.fixed_point import fixed_point
from fourbit_onnx.formats.table import FORMATS, Format
from fourbit_onnx.formats.types import Codes, Scalar

_BITS = 30  # finer than float32 resolves; 2**33 terms fit into int64

UNSIGNED, SIGNED = FORMATS["uint4"], FORMATS["int4"]


def scale(alpha: Scalar, row: Format) -> np.float32:
    """``alpha / 15`` or ``alpha / 7``, one float32 division.

    Raises:
        FormatError: ``alpha`` is not finite and positive, or too small to be divided.
    """
    checks.require_positive("pact", "alpha", np.float32(alpha))
    step = np.float32(alpha) / np.float32(row.max)
    if step == 0:
        raise FormatError(f"pact needs an alpha of which a {row.max}th is above 0, not {alpha}")
    return step


def encode(x: ArrayLike, alpha: Scalar, row: Format) -> Codes:
    """The codes of ``x`` (any shape): rint(x / scale), half to even, saturated.

    Args:
        x: Read as float32; may be empty.
        alpha: The clip, float32.
        row: ``UNSIGNED`` or ``SIGNED``.

    Raises:
        FormatError: There are elements, and one is not finite (``UNSIGNED`` takes minus infinity), or
            ``alpha`` is refused by ``scale``.
    """
    x = np.asarray(x, np.float32)
    if row.min == 0:
        x = np.where(x < 0, np.float32(0), x)
    return integer.encode(x, scale(alpha, row) if x.size > 0 else 1, row)


def inside(x: ArrayLike, alpha: Scalar, row: Format) -> NDArray[np.bool_]:
    """Where the gradient passes: ``0 < x < alpha``, or ``-alpha < x < alpha`` if ``row`` is signed."""
    x, highest = np.asarray(x, np.float32), np.float32(alpha)
    lowest = -highest if row.min < 0 else np.float32(0)
    return np.asarray((x > lowest) & (x < highest))


def input_grad(dy: ArrayLike, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``dy`` where the gradient passes, +0 elsewhere."""
    return np.where(inside, np.asarray(dy, np.float32), np.float32(0))


def _result(units: float, m: np.float32) -> np.float32:
    """A sum in units of the fixed point as float32; infinite if it exceeds float32."""
    with np.errstate(over="ignore"):
        return np.float32(units * 2.0**-_BITS * float(m))


def alpha_grad(dy: ArrayLike, codes: ArrayLike, inside: NDArray[np.bool_], top: int) -> np.float32:
    """``dalpha`` of plain PACT.

    Args:
        dy: Gradient of y, any shape.
        codes: Of y, the same shape.
        inside: From ``inside``, the same shape.
        top: The code of alpha, 15 or 7; that of -alpha is -top, which UINT4 does not have.

    Raises:
        FormatError: Some element of ``dy`` is not finite.
    """
    dy, codes = np.asarray(dy, np.float32), np.asarray(codes, np.int64)
    m = checks.largest_magnitude("pact", "dy", dy)
    if m == 0:
        return m
    u = fixed_point(dy, m, _BITS)
    above, below = ~inside & (codes == top), ~inside & (codes == -top)
    return _result(float(int((u * above - u * below).sum())), m)


def rounded_up(x: ArrayLike, scale: Scalar) -> NDArray[np.bool_]:
    """Where ``rint(x / scale)`` is above ``x / scale``, one float32 division; false where x is not finite."""
    with np.errstate(all="ignore"):
        z = np.asarray(x, np.float32) / np.float32(scale)
        return np.asarray(np.rint(z) > z)


def alpha_grad_plus(
    dy: ArrayLike, codes: ArrayLike, inside: NDArray[np.bool_], up: NDArray[np.bool_], top: int
) -> np.float32:
    """``dalpha`` of PACT+: also of the rounding inside the range.

    Args:
        dy: Gradient of y, any shape.
        codes: Of y, the same shape.
        inside: From ``inside``, the same shape.
        up: From ``rounded_up``, the same shape; read inside only.
        top: The code of alpha, 15 or 7.

    Raises:
        FormatError: Some element of ``dy`` is not finite.
    """
    dy, codes = np.asarray(dy, np.float32), np.asarray(codes, np.int64)
    m = checks.largest_magnitude("pact", "dy", dy)
    if m == 0:
        return m
    u = fixed_point(dy, m, _BITS)
    above, below = ~inside & (codes == top), ~inside & (codes == -top)
    clipped = float(int((u * above - u * below).sum()))
    rounding = float(int((np.where(up, u, -u) * inside).sum()))
    return _result(clipped + rounding / (4 * top), m)


def initial_clip(x: ArrayLike) -> np.float32:
    """The 99.9th percentile of ``|x|``: the smallest of the ``max(1, n // 1000)`` largest; 0 if empty.

    Raises:
        FormatError: Some element is not finite.
    """
    magnitude = np.abs(np.asarray(x, np.float32)).reshape(-1)
    checks.require_finite("pact", "x", magnitude)
    if magnitude.size == 0:
        return np.float32(0)
    rank = max(1, magnitude.size // 1000)
    return np.float32(np.partition(magnitude, -rank)[-rank])
