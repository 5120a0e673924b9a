"""Scale rules: a float32 tensor of any shape to the scale of its codes. Each refuses NaN and infinity.

``DitherScale`` changes a scale that another rule gave.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import absmax, dither, log2, minmax, sawb
from fourbit_onnx.formats import gradient_scale as gradient
from fourbit_onnx.formats.types import Scalar


def sawb_scale(w: ArrayLike) -> np.float32:
    """``SawbScale``: the clip of statistics-aware weight binning, a seventh of it."""
    return sawb.scale(w)


def abs_max_scale(x: ArrayLike) -> np.float32:
    """``AbsMaxScale``: ``max|x| / 7``."""
    return absmax.scale(x)


def underflow_scale(x: ArrayLike) -> np.float32:
    """``UnderflowScale``: ``max|x| / 64``, for ``log2``."""
    return log2.scale(x)


def min_max_scale(x: ArrayLike) -> tuple[np.float32, np.int32]:
    """``MinMaxScale``: scale and zero point that stretch [min, max] to [-8, 7]."""
    return minmax.scale(x)


def gradient_scale(dy: ArrayLike, *, threshold: Scalar = 2.5) -> np.float32:
    """``GradientScale``: the power of two for which the largest gradient rounds to the top level."""
    return gradient.dynamic(dy, threshold)


def learned_gradient_scale(
    dy: ArrayLike, top: Scalar, *, threshold: Scalar = 2.5
) -> tuple[np.float32, np.float32]:
    """``LearnedGradientScale``: scale by the state ``top``, and the state of the next step."""
    return gradient.learned(dy, top, threshold)


def dither_scale(scale: Scalar, u: ArrayLike, *, factors: Sequence[int] = dither.FACTORS) -> np.float32:
    """``DitherScale``: the scale of ``log4`` times one of ``factors`` / 1024, by a random number."""
    if tuple(factors) != dither.FACTORS:
        raise FormatError("dither has one table of factors, formats.dither.FACTORS")
    return dither.scale(scale, u)
