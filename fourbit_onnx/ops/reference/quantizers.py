"""Quantisers: a float32 tensor and its scale to codes of the same shape; and the gradient of PACT.

A quantiser refuses an ``x`` with NaN or infinity, and a scale or clip that is not finite and positive;
an empty ``x`` is accepted with any.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.formats import integer, log2, log4, packing, pact, stochastic
from fourbit_onnx.formats.table import FORMATS, Format
from fourbit_onnx.formats.types import Codes, Scalar


def quantize_int4(x: ArrayLike, scale: Scalar) -> Codes:
    """``QuantizeInt4``: clip(rint(x / scale), -7, 7), int8."""
    return integer.encode(x, scale, FORMATS["int4"])


def quantize_affine(x: ArrayLike, scale: Scalar, zero_point: int) -> Codes:
    """``QuantizeAffine``: clip(rint(x / scale) + zero_point, -8, 7), int8."""
    return integer.encode(x, scale, FORMATS["int4_full"], zero_point)


Clipped = tuple[Codes, np.float32, NDArray[np.uint8], NDArray[np.uint8]]


def _pact(x: ArrayLike, alpha: Scalar, row: Format) -> Clipped:
    x, alpha = np.asarray(x, np.float32), np.float32(alpha)
    codes = pact.encode(x, alpha, row)
    # The scale of an empty tensor is whatever its clip gives.
    scale = pact.scale(alpha, row) if x.size > 0 else alpha / np.float32(row.max)
    inside = pact.inside(x, alpha, row)
    return codes, scale, packing.pack_bits(inside), packing.pack_bits(inside & pact.rounded_up(x, scale))


def quantize_pact(x: ArrayLike, alpha: Scalar) -> Clipped:
    """``QuantizePact``: uint8 codes clip(rint(x / scale), 0, 15), alpha / 15, masks 0 < x < alpha and up.

    The second mask is where, inside the first, ``rint(x / scale)`` is above ``x / scale``.
    """
    return _pact(x, alpha, pact.UNSIGNED)


def quantize_pact_signed(x: ArrayLike, alpha: Scalar) -> Clipped:
    """``QuantizePactSigned``: int8 codes clip(rint(x / scale), -7, 7), alpha / 7, |x| < alpha and up."""
    return _pact(x, alpha, pact.SIGNED)


def quantize_log4(
    dy: ArrayLike, scale: Scalar, *, phase: int = 0, threshold: Scalar = log4.THRESHOLD
) -> tuple[NDArray[np.uint8], np.float32]:
    """``QuantizeLog4``: codes as uint8, and the scale of the phase: 0 even, 1 odd (twice ``scale``)."""
    return log4.encode(dy, scale, phase, threshold), log4.phase_scale(scale, phase)


def quantize_log2(x: ArrayLike, scale: Scalar) -> NDArray[np.uint8]:
    """``QuantizeLog2``: codes as uint8, rounded to nearest."""
    return log2.encode(x, scale)


def quantize_int4_stochastic(x: ArrayLike, scale: Scalar, u: ArrayLike) -> Codes:
    """``QuantizeInt4Stochastic``: int8 codes -7..7, rounded by the random numbers ``u``."""
    return stochastic.encode(x, scale, u, FORMATS["int4"])


def quantize_log_stochastic(
    x: ArrayLike, scale: Scalar, u: ArrayLike, *, levels: Sequence[int], phase: int = 0
) -> tuple[Codes, np.float32]:
    """``QuantizeLogStochastic``: codes as uint8, rounded by ``u``, and the scale of the phase.

    Args:
        x: The gradient.
        scale: The smallest level of the even grid.
        u: Random numbers in [0, 1), the shape of ``x``.
        levels: Of the codes 0..7: those of ``log2`` or ``log4``.
        phase: 0 even, 1 odd (twice ``scale``).
    """
    row = dataclasses.replace(FORMATS["log4"], values=(*levels, *(-level for level in levels)))
    phase_scale = log4.phase_scale(scale, phase)
    return stochastic.encode(x, phase_scale, u, row), phase_scale


def pact_grad(
    dy: ArrayLike, codes: ArrayLike, mask: ArrayLike, *, top: int = 15
) -> tuple[NDArray[np.float32], np.float32]:
    """``PactGrad``: dx, and dalpha.

    Args:
        dy: Gradient of what PACT gave; refused if not finite.
        codes: What PACT gave, the same shape.
        mask: Its packed mask, uint8[ceil(n / 8)].
        top: The code of alpha: 15 for UINT4, 7 for INT4.
    """
    dy = np.asarray(dy, np.float32)
    inside = packing.unpack_bits(mask, dy.shape)
    dalpha = pact.alpha_grad(dy, codes, inside, top)
    return pact.input_grad(dy, inside), dalpha


def pact_plus_grad(
    dy: ArrayLike, codes: ArrayLike, mask: ArrayLike, up: ArrayLike, *, top: int = 15
) -> tuple[NDArray[np.float32], np.float32]:
    """``PactPlusGrad``: ``pact_grad`` with what rounding adds to dalpha; ``up`` is the quantiser's."""
    dy = np.asarray(dy, np.float32)
    inside, is_up = (packing.unpack_bits(bits, dy.shape) for bits in (mask, up))
    return pact.input_grad(dy, inside), pact.alpha_grad_plus(dy, codes, inside, is_up, top)
