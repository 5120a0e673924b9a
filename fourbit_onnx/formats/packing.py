"""Two codes a byte, and eight mask bits a byte, in flat (row-major) order.

    nibbles:  byte i = code 2i | code 2i+1 << 4        (ONNX order)
    bits:     byte i = bit 8i | bit 8i+1 << 1 | ... | bit 8i+7 << 7

What the last byte has beyond the last code or bit is 0.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats.types import Codes


def pack_nibbles(codes: ArrayLike) -> NDArray[np.uint8]:
    """Codes -8..7 or 0..15 of any shape to uint8[ceil(n / 2)].

    Raises:
        FormatError: Some code has no place in four bits.
    """
    flat = np.asarray(codes).reshape(-1).astype(np.int64)
    outside = (flat < -8) | (flat > 15)
    if outside.any():
        at = int(np.argmax(outside))
        raise FormatError(f"pack_nibbles needs codes of four bits, -8..15: code {at} is {flat[at]}")
    nibbles = np.zeros(flat.size + flat.size % 2, np.uint8)
    nibbles[: flat.size] = flat & 15
    return np.asarray(nibbles[::2] | nibbles[1::2] << 4, np.uint8)


def unpack_nibbles(packed: ArrayLike, shape: Sequence[int], element_type: str) -> Codes:
    """The codes of ``packed``: int8 -8..7 for element type ``int4``, uint8 0..15 for ``uint4``.

    Raises:
        FormatError: The number of bytes does not go with the shape, or there is no such element type.
    """
    data, count = np.asarray(packed, np.uint8).reshape(-1), math.prod(shape)
    if data.size != (count + 1) // 2:
        raise FormatError(f"unpack_nibbles: {list(shape)} takes {(count + 1) // 2} bytes, not {data.size}")
    nibbles = np.stack([data & 15, data >> 4], axis=1).reshape(-1)[:count].reshape(shape)
    if element_type == "uint4":
        return nibbles
    if element_type == "int4":
        return ((nibbles ^ 8).astype(np.int8) - np.int8(8)).astype(np.int8)  # extends the sign bit
    raise FormatError(f"no 4-bit element type {element_type!r}; there are: 'int4', 'uint4'")


def pack_bits(mask: ArrayLike) -> NDArray[np.uint8]:
    """Booleans of any shape to uint8[ceil(n / 8)], the first in the lowest bit."""
    return np.packbits(np.asarray(mask, np.bool_).reshape(-1), bitorder="little")


def unpack_bits(packed: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """The booleans of ``packed``, in ``shape``.

    Raises:
        FormatError: The number of bytes does not go with the shape.
    """
    data, count = np.asarray(packed, np.uint8).reshape(-1), math.prod(shape)
    if data.size != (count + 7) // 8:
        raise FormatError(f"unpack_bits: {list(shape)} takes {(count + 7) // 8} bytes, not {data.size}")
    return np.unpackbits(data, count=count, bitorder="little").astype(np.bool_).reshape(shape)
