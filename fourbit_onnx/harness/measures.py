"""What four bits do to one tensor: noise, zeros, saturation, the use of the codes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fourbit_onnx.formats.table import FORMATS, Format

Array = npt.NDArray[Any]

# A magnitude in units of the scale (float32 division, as the quantisers have it) that no code reaches.
# A linear grid rounds to nearest, the logarithmic one by its thresholds; see NUMERICS on both.
_Beyond = Callable[[Array, int, Mapping[str, Any]], "npt.NDArray[np.bool_]"]


def _beyond_grid(row: Format) -> _Beyond:
    def beyond(ratio: Array, zero_point: int, attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
        code = np.rint(ratio) + np.float32(zero_point)
        return np.asarray((code < row.min) | (code > row.max))

    return beyond


def _beyond_log4(ratio: Array, zero_point: int, attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.abs(ratio) > np.float32(attributes.get("threshold", 2.5)) * np.float32(4096))


def _beyond_top(row: Format) -> _Beyond:
    def beyond(ratio: Array, zero_point: int, attributes: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
        return np.asarray(np.abs(ratio) > row.max)

    return beyond


def _beyond(row: Format) -> _Beyond:
    if row.name == "log4":
        return _beyond_log4
    return _beyond_grid(row) if row.max < 16 else _beyond_top(row)


def measure(
    x: Array,
    codes: Array,
    scale: float | np.float32,
    zero_point: int,
    format: str,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """The figures of one quantised tensor; shares are of all its elements, but for ``underflow``.

    Args:
        x: What was quantised, float32, any shape.
        codes: Its codes as DequantizeLinear with scale 1 gives them: -8..7 or 0..15.
        scale: Of the tensor.
        zero_point: An integer; 0 but for ``int4_full``.
        format: A row of the format table.
        attributes: Of the quantiser's node.

    Returns:
        ``snr_db``: 10 log10(sum x² / sum (x - q)²) in float64, None where that is no finite number;
        ``zeros``: share of elements that are 0 after quantisation;
        ``saturated``: share that rounds to a level beyond the largest, or smallest, that there is;
        ``underflow``: share of the elements that are not 0 before and are 0 after;
        ``scale``; ``codes``: how often each of the 16 codes occurs, the code as an unsigned nibble.
    """
    row = FORMATS[format]
    nibbles = codes.astype(np.int64) & 15
    integers = np.asarray(row.values, np.int64)[nibbles] - zero_point
    exact = x.astype(np.float64)
    with np.errstate(over="ignore"):  # a ratio beyond float32 is infinite, and saturates
        ratio = x.astype(np.float32) / np.float32(scale)
    return {
        **noise(exact, integers * np.float64(scale)),
        "saturated": _share(_beyond(row)(ratio, zero_point, attributes)),
        "scale": float(scale),
        "codes": np.bincount(nibbles.reshape(-1), minlength=16).tolist(),
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
