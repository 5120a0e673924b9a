"""GELU and its gradient with +, -, * and / only; ``tools/fit_odd_ratios.py`` found the coefficients.

    gelu(x) = x * Phi(x),  gelu'(x) = Phi(x) + x * phi(x)        of the standard normal distribution

Phi - 1/2 and gelu' - 1/2 are odd: two `OddRatio`. At the limit both are 1/2 to the last bit.
Phi is off by at most 2.6e-7 and gelu' by 3.3e-7 (measured at every float32 from 2**-20 to 8, of both signs;
an ulp of 1 is 1.2e-7); gelu is off by |x| times the former, and a rounding.

Infinity makes no NaN: gelu(-inf) = -0, gelu(inf) = inf, gelu'(-inf) = 0, gelu'(inf) = 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.ops.reference.odd_ratio import OddRatio

Array = NDArray[np.float32]
_HALF = np.float32(0.5)

CDF = OddRatio(
    5.5,
    (0.39894223, 0.033852734, 0.0046772663, 0.00016882659, 6.3521265e-06, 2.2749354e-08),
    (1.0, 0.25152215, 0.028645921, 0.00188445, 7.364781e-05, 1.1975043e-06),
)
SLOPE = OddRatio(
    6.15,
    (
        0.7978845, -0.013780201, 0.013400173, 0.00036243474, 3.2005468e-05, 1.3292147e-06, 1.444653e-08,
        -3.0118807e-11,
    ),
    (1.0, 0.31606174, 0.047150496, 0.004368618, 0.00027784743, 1.1809604e-05, 4.2055902e-07),
)  # fmt: skip


def gelu(x: ArrayLike) -> Array:
    """``Gelu``: x * Phi(x), float32 of any shape; -0 for minus infinity, NaN for NaN."""
    bounded = CDF.from_below(x)
    return bounded * (_HALF + CDF(bounded))


def gelu_grad(dy: ArrayLike, x: ArrayLike) -> Array:
    """``GeluGrad``: dy * (Phi(x) + x * phi(x)), of one shape."""
    with np.errstate(all="ignore"):  # dy may be anything
        return np.asarray(dy, np.float32) * (_HALF + SLOPE(SLOPE.from_below(x)))
