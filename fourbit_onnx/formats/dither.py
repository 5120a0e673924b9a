"""Dithered scale of ``log4``: in each step the grid of a layer begins somewhere else.

    dithered = scale * n / 1024,    n = FACTORS[floor(64 * u)],    FACTORS[k] = round(1024 * 4**(k / 64))

for one random number u in [0, 1) a layer and step. The levels of radix 4 repeat after a factor of 4, and
the logarithm of the factor is uniform over that period. So the *same* gradient is rounded up in some steps
and down in others, and over the steps

    E[Q(x)] = 3 / (t ln 4) * x    for every x within the range, t the threshold of ``log4``,

which is x itself for t = 3 / ln 4 (``log4.UNBIASED``): the integral of level / x over log x, for x from
t / 4 to t times the level, is (4 - 1) / t, and the period is ln 4. Rounding to the nearest level of a grid
that stays where it is has no such property: what it does to a gradient it does in every step. Stochastic
rounding of each element is unbiased, too, but its RMS relative error on radix 4 is 59 %, this one's 39 %.

64 places instead of all of them leave an error of at most 1.5 / 64 in a single E[Q(x)] / x. Factors are
multiples of 1 / 1024, so that they are the same numbers on every machine; times a power of two, exact.
"""

import numpy as np
from numpy.typing import ArrayLike

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats.types import Scalar

UNIT = 1024
FACTORS = tuple(round(UNIT * 4.0 ** (k / 64)) for k in range(64))  # none is near a tie


def scale(scale: Scalar, u: ArrayLike) -> np.float32:
    """``scale`` times 1 to almost 4.

    Args:
        scale: Of the even grid, float32.
        u: One random number in [0, 1), of any shape.

    Raises:
        FormatError: ``u`` is not one number in [0, 1).
    """
    draw = np.asarray(u, np.float32).reshape(-1)
    if draw.size != 1 or not 0 <= draw[0] < 1:
        raise FormatError(f"dither needs one random number in [0, 1), not {u!r}")
    factor = np.float32(FACTORS[int(draw[0] * np.float32(len(FACTORS)))]) / np.float32(UNIT)
    with np.errstate(over="ignore"):  # beyond float32: infinite, as IEEE has it
        return np.float32(scale) * factor
