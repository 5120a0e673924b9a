"""What four bits do to one tensor: noise, zeros, saturation, the use of the codes."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fourbit_onnx.formats import log4
from fourbit_onnx.formats.table import FORMATS

Array = npt.NDArray[Any]

# The largest ratio to the scale that rounds to the top level, where levels are not evenly spaced: half way to
# the level that would come next. log4 has an attribute for it.
_NEXT = {"log2": 96.0, "e2m1": 14.0}
_LOG4_TOP = 4096.0
# A largest element that its scale is made from is the top level but for a few float32 roundings (2**-24).
_ROUNDING = 2.0**-20


def measure(
    x: Array,
    codes: Array,
    step: Array | float | np.float32,
    format: str,
    *,
    zero_point: int = 0,
    threshold: float = 2.5,
    stochastic: bool = False,
) -> dict[str, Any]:
    """The figures of one quantised tensor; shares are of all its elements, but for ``underflow``.

    Args:
        x: What was quantised, float32, any shape.
        codes: Its codes as DequantizeLinear with scale 1 gives them: -8..7 or 0..15.
        step: The scale, float32; for scales a block an array of what one unit is worth for each element.
        format: A row of the format table.
        zero_point: An integer; 0 but for ``int4_full``.
        threshold: Of ``log4`` rounded to nearest.
        stochastic: Whether it was rounded stochastically.

    Returns:
        ``snr_db``: 10 log10(sum x² / sum (x - q)²) in float64, None where that is no finite number;
        ``zeros``: share of elements that are 0 after quantisation;
        ``saturated``: share that rounds to a level beyond the largest, or smallest, that there is; rounded
        stochastically, share that lies beyond;
        ``underflow``: share of the elements that are not 0 before and are 0 after;
        ``codes``: how often each of the 16 codes occurs, the code as an unsigned nibble.
    """
    row = FORMATS[format]
    nibbles = codes.astype(np.int64) & 15
    integers = np.asarray(row.values, np.int64)[nibbles] - zero_point
    step = np.asarray(step)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        ratio = x.astype(np.float32) / step  # a float32 scale: as the quantiser divides
    if stochastic:
        beyond = np.abs(ratio) > row.max * (1 + _ROUNDING)
    elif format == "log4":
        beyond = np.abs(ratio) > np.float32(threshold) * np.float32(_LOG4_TOP)
    elif format in _NEXT:
        beyond = np.abs(ratio) > _NEXT[format]
    else:
        code = np.rint(ratio) + np.float32(zero_point)
        beyond = (code < row.min) | (code > row.max)
    return {
        **noise(x.astype(np.float64), integers * step.astype(np.float64)),
        "saturated": _share(np.asarray(beyond)),
        "codes": np.bincount(nibbles.reshape(-1), minlength=16).tolist(),
    }


def measure_mean(
    x: Array, even: Array, odd: Array, scale: float | np.float32, threshold: float
) -> dict[str, Any]:
    """The figures of the mean of both phases of ``log4``, as `measure` has them; ``codes`` are those of both.

    Args:
        x: What was quantised, float32, any shape.
        even: Its codes on the even grid, 0..15.
        odd: Its codes on the odd grid.
        scale: The smallest level of the even grid.
        threshold: Where either rounds up, above the lower level.
    """
    mean = log4.mean(even, odd) * (np.float64(scale) * log4.MEAN_UNIT)
    first = measure(x, even, np.float32(scale), "log4", threshold=threshold)
    counts = np.bincount(odd.astype(np.int64).reshape(-1), minlength=16)
    return {
        **noise(x.astype(np.float64), mean),
        "saturated": first["saturated"],  # the even grid would go on first
        "codes": (counts + np.array(first["codes"])).tolist(),
    }


def noise(exact: Array, quantized: Array) -> dict[str, Any]:
    """Signal to noise, zeros and underflow of ``exact`` and its quantised form, both float64."""
    zero = quantized == 0
    nonzero = exact != 0
    signal = float(np.sum(exact * exact))
    error = float(np.sum((exact - quantized) ** 2))
    return {
        "snr_db": 10 * math.log10(signal / error) if signal and error else None,
        "zeros": _share(zero),
        "underflow": float(np.sum(zero & nonzero) / max(np.sum(nonzero), 1)),
    }


def _share(mask: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(mask)) if mask.size else 0.0
