"""Scale rules for blocks: a tensor to an integer scale a block, 1..2**18, and one float32 scale.

The integers are what makes sums of products exact: code * block scale is at most 12 * 2**18, so that
932,067 products of two of them fit int64. m is max|x| of the tensor, b that of a block.

    nvfp4:    t = m / 2688;  E4M3 of (b / 6) / t, in units of 2**-9;  scale = t * 2**-10 (codes are in halves)
    mxfp4:    the least power of two p with b <= 6 p, in units of the largest one's 2**-18
    block16:  ceil(b / m * 2**18), in units of m / 7 * 2**-18

2688 = 6 * 448: the largest element gets code 6 and the block scale 448. (NVIDIA, arXiv 2509.25149; OCP
Microscaling Formats 1.0 with the scale of arXiv 2502.20853; arXiv 2606.20381.) A block that is 2**18
times smaller than the largest gets the smallest scale, for ``nvfp4`` 2**-9 of t: coarser than its own.
Divisions are float32; a tensor of zeros has block scales of 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import blocks, checks, e4m3
from fourbit_onnx.formats.guard import guard

SPAN = 18  # the largest block scale is 2**18, or 448 * 2**9
_POWERS = np.array([2.0**e for e in range(-81, 127)], np.float32)  # times 2**-19 above 1e-30

Scales = tuple[NDArray[np.int32], np.float32]


def _measure(x: ArrayLike, size: int, rows: int) -> tuple[np.float32, NDArray[np.float32]]:
    x = np.asarray(x, np.float32)
    return checks.largest_magnitude("block scales", "x", x), blocks.maxima(x, size, rows)


def _result(scales: NDArray[np.int32], scale: np.float32, rows: int, x: ArrayLike) -> Scales:
    return blocks.for_rows(scales, rows, np.asarray(x).shape[-2]), np.float32(scale)


def nvfp4(x: ArrayLike, *, size: int = 16, rows: int = 1, up: bool = False) -> Scales:
    """E4M3 block scales and the scale of a half.

    Args:
        x: [..., M, K].
        size: Elements of a block along K.
        rows: Elements of a block along M.
        up: Round block scales up, not to nearest: nothing saturates, which stochastic rounding needs.

    Returns:
        int32 [..., M, ceil(K / size)], and float32.

    Raises:
        FormatError: Some element is not finite, or there are fewer than two dimensions.
    """
    m, b = _measure(x, size, rows)
    t = guard(m / np.float32(2688)) if m > 0 else np.float32(1)
    return _result(e4m3.units(b / np.float32(6) / t, up=up), t * np.float32(2.0**-10), rows, x)


def mxfp4(x: ArrayLike, *, size: int = 32, rows: int = 1) -> Scales:
    """Powers of two and the scale of a half; as `nvfp4`. Never rounded down, so nothing saturates."""
    m, b = _measure(x, size, rows)
    six = np.float32(6)
    with np.errstate(over="ignore"):  # nothing exceeds an infinite limit
        top = _POWERS[np.count_nonzero(six * _POWERS[:-1] < m)] if m > 0 else np.float32(1)
    limits = six * (top * np.exp2(np.arange(-SPAN, 0)).astype(np.float32))
    scales = np.exp2(np.searchsorted(limits, b, side="left")).astype(np.int32)
    return _result(scales, top * np.float32(2.0 ** -(SPAN + 1)), rows, x)


def block16(x: ArrayLike, *, size: int = 16, rows: int = 1) -> Scales:
    """Multiples of 2**-18 of the largest step, rounded up, and that unit; as `nvfp4`, for ``int4``."""
    m, b = _measure(x, size, rows)
    step = guard(m / np.float32(7)) if m > 0 else np.float32(1)
    share = b / (m if m > 0 else np.float32(1))
    scales = np.maximum(np.ceil(share * np.float32(2.0**SPAN)), 1).astype(np.int32)
    return _result(scales, step * np.float32(2.0**-SPAN), rows, x)
