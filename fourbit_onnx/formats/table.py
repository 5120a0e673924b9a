"""The 4-bit formats, one row each: all that a product needs to know of a format.

A product sums ``values[code] - zero_point`` as integers. A new format is a new row here and an encoder.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import e2m1, log2, log4
from fourbit_onnx.formats.types import Scalar

_TWOS_COMPLEMENT = tuple(nibble - 16 * (nibble >= 8) for nibble in range(16))


@dataclasses.dataclass(frozen=True)
class Format:
    """How sixteen codes map to numbers.

    Attributes:
        name: What recipes call it.
        element_type: ONNX element type of the codes, ``int4`` or ``uint4``.
        values: The integer that nibble 0..15 stands for, in units of the scale, before the zero point.
        min: The smallest of ``values`` that a quantiser produces.
        max: The largest of ``values`` that a quantiser produces.
    """

    name: str
    element_type: str
    values: tuple[int, ...]
    min: int
    max: int

    def __post_init__(self) -> None:
        if len(self.values) != 16:
            raise FormatError(f"format {self.name!r} has {len(self.values)} values; four bits have 16")
        if self.element_type not in ("int4", "uint4"):
            raise FormatError(
                f"format {self.name!r} has codes of type {self.element_type!r}, not int4 or uint4"
            )


FORMATS: Mapping[str, Format] = {
    row.name: row
    for row in (
        # Seven levels a side: -x negates the code. -8 is never produced.
        Format("int4", "int4", _TWOS_COMPLEMENT, -7, 7),
        # All sixteen levels, with an integer zero point: value - zero_point.
        Format("int4_full", "int4", _TWOS_COMPLEMENT, -8, 7),
        Format("uint4", "uint4", tuple(range(16)), 0, 15),
        # Sign bit and exponent. 0b1_000 is never produced and reads as 0.
        Format("log4", "uint4", tuple(log4.value(code) for code in range(16)), -4096, 4096),
        Format("log2", "uint4", tuple(log2.value(code) for code in range(16)), -64, 64),
        # In halves, so that they are integers. 0b1_000 is never produced and reads as 0.
        Format("e2m1", "uint4", tuple(e2m1.value(code) for code in range(16)), -12, 12),
    )
}


def find(name: str) -> Format:
    """The row of the format called ``name``.

    Raises:
        FormatError: There is none.
    """
    if name not in FORMATS:
        raise FormatError(f"no format {name!r}; there are: {', '.join(FORMATS)}")
    return FORMATS[name]


def decode(codes: ArrayLike, scale: Scalar, row: Format, zero_point: int = 0) -> NDArray[np.float32]:
    """The numbers that ``codes`` stand for: ``scale * (values[code] - zero_point)``, one rounding to float32.

    Beyond float32 it is infinite, as IEEE has it.

    Args:
        codes: Integers; only the low four bits are read, so int8 and uint8 codes do alike.
        scale: Of the tensor, float32.
        row: The format of the codes.
        zero_point: An integer; 0 but for ``int4_full``.
    """
    nibbles = np.asarray(codes, np.int64) & 15
    integers = np.asarray(row.values, np.int64)[nibbles] - zero_point
    with np.errstate(over="ignore"):
        return np.asarray(integers.astype(np.float32) * np.float32(scale), np.float32)
