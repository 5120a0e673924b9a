"""One step of an LSTM behind its products, and its gradient, with +, -, * and / only.

    i, o, f = sigmoid(sums of the gates),  g = tanh(sum of the candidate)          in ONNX's order i, o, f, g
    new_c = f * c + i * g,  h = o * tanh(new_c)

    d = dh + more_dh,  dn = dc + (d * o) * (1 - tanh(new_c)**2)
    di = (dn * g) * (i * (1 - i)),  do = (d * tanh(new_c)) * (o * (1 - o)),  df = (dn * c) * (f * (1 - f))
    dg = (dn * i) * (1 - g * g),  previous_dc = dn * f

tanh is the `OddRatio` below, bounded to -1 .. 1, and sigmoid(x) = 1/2 + 1/2 * tanh(x / 2). tanh is off by at
most 3.4e-7 and sigmoid by 1.9e-7 (measured at every float32 from 2**-20 to 20; an ulp of 1 is 1.2e-7).
Infinity makes no NaN: tanh is -1 or 1 there, sigmoid 0 or 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.ops.reference.odd_ratio import OddRatio

Array = NDArray[np.float32]
_HALF, _ONE = np.float32(0.5), np.float32(1)

TANH = OddRatio(
    8.75,
    (0.99999994, 0.1338982, 0.0035062989, 2.0796186e-05, 1.3635591e-08),
    (1.0, 0.46723124, 0.025917042, 0.0003303614, 7.8868663e-07),
)


def tanh(x: ArrayLike) -> Array:
    """Hyperbolic tangent, float32 of any shape; NaN for NaN."""
    y = TANH(TANH.from_below(x))
    y = np.where(y < -_ONE, -_ONE, y)
    return np.where(y > _ONE, _ONE, y)


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + exp(-x)), float32 of any shape; NaN for NaN."""
    return _HALF + _HALF * tanh(_HALF * np.asarray(x, np.float32))


def lstm_cell(
    p: ArrayLike, y: ArrayLike, c: ArrayLike, step: int = 0, steps: int = 1
) -> tuple[Array, Array, Array]:
    """``LstmCell``: h, new_c (both [..., H]) and the open gates and candidate [..., 4 H], float32.

    Args:
        p: Sums of the gates' inputs [..., 4 H], of ``steps`` steps one after the other on the first axis.
        y: Their recurrent products, the same shape, but of one step; or one number.
        c: State of the cells [..., H]; or one number.
        step: Which step of p this is, from 0.
        steps: How many are in p.
    """
    p = np.asarray(p, np.float32)
    each = p.shape[0] // steps
    p = p[step * each : (step + 1) * each]
    with np.errstate(all="ignore"):  # inputs may be anything
        sums = p + np.asarray(y, np.float32)
        *gates, candidate = np.split(sums, 4, axis=-1)
        i, o, f = map(sigmoid, gates)
        g = tanh(candidate)
        new_c = f * np.asarray(c, np.float32) + i * g
        return o * tanh(new_c), new_c, np.concatenate([i, o, f, g], axis=-1)


def lstm_cell_grad(
    dh: ArrayLike, more_dh: ArrayLike, dc: ArrayLike, gates: ArrayLike, c: ArrayLike, new_c: ArrayLike
) -> tuple[Array, Array]:
    """``LstmCellGrad``: the gradients of the sums [..., 4 H] and of c [..., H].

    Args:
        dh: Gradient of h [..., H]; or one number, as all others but gates and new_c.
        more_dh: To be added to it.
        dc: Gradient of new_c.
        gates: From ``lstm_cell``.
        c: From before the step.
        new_c: From ``lstm_cell``.
    """
    with np.errstate(all="ignore"):
        i, o, f, g = np.split(np.asarray(gates, np.float32), 4, axis=-1)
        d = np.asarray(dh, np.float32) + np.asarray(more_dh, np.float32)
        t = tanh(new_c)
        dn = np.asarray(dc, np.float32) + (d * o) * (_ONE - t * t)
        di = (dn * g) * (i * (_ONE - i))
        do = (d * t) * (o * (_ONE - o))
        df = (dn * np.asarray(c, np.float32)) * (f * (_ONE - f))
        dg = (dn * i) * (_ONE - g * g)
        return np.concatenate([di, do, df, dg], axis=-1), dn * f
