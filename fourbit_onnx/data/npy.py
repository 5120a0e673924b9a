"""``.npy`` files: one array, or a folder of them, mapped into memory instead of read."""

import io
import math
import struct
import tokenize
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import paths
from fourbit_onnx.errors import DataError

Array = NDArray[Any]

# NumPy allows a rank of 64, some of its functions 32; it wants sizes with a zero among them small as well.
MAX_RANK, MAX_SIZE = 32, 1 << 48

# By version: type of the header's length, and parser. NumPy refuses a long header too, but reads it first.
LENGTHS = {(1, 0): "<H", (2, 0): "<I"}
PARSERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MAX_HEADER = 10_000

# What the parser raises for nonsense: it evaluates a Python literal and makes a dtype of it.
DAMAGED = (
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    SyntaxError,
    RecursionError,
    MemoryError,  # of Python's parser, for deep nesting, before 3.11
    tokenize.TokenError,
)


@dataclass(frozen=True)
class Header:
    """What stands before the numbers: their type, shape and order, and at which byte they begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read(path: Path) -> Array:
    """The array of one file, mapped read-only: a file larger than the memory will do.

    Raises:
        DataError: The file is missing, damaged, of another length than its header says, or holds no numbers.
    """
    with paths.opened(path) as file:
        header = read_header(file, str(path))
        found = file.seek(0, 2) - header.start
    paths.check_length(header.nbytes, found, str(path), "write it again with numpy.save")
    order: Literal["C", "F"] = "F" if header.fortran else "C"
    return np.memmap(path, header.dtype, "r", header.start, header.shape, order)


def read_folder(folder: Path, keys: Mapping[str, str] | None = None) -> dict[str, Array]:
    """The arrays of ``image.npy``, ``labels.npy``, ... in a folder, by the names of the files.

    ``keys`` gives the file of each array wanted: ``{"image": "x_train"}``. Without it, all are read.

    Raises:
        DataError: A file is missing or refused.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.npy"))}
    return {name: read(found[key]) for name, key in paths.chosen(keys, list(found), str(folder)).items()}


def read_header(file: BinaryIO, where: str) -> Header:
    """Read the header of a ``.npy`` stream; nothing is allocated for the array.

    Raises:
        DataError: This is no such stream, or its array is not one of plain numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a header by Python 2, which is fine
            version = np.lib.format.read_magic(file)
            if version not in LENGTHS:
                raise ValueError(f"format version {version[0]}.{version[1]}")
            length = file.read(struct.calcsize(LENGTHS[version]))
            (size,) = struct.unpack(LENGTHS[version], length)
            if size > MAX_HEADER:
                raise ValueError(f"a header of {size} bytes")
            text = io.BytesIO(length + file.read(size))
            shape, fortran, dtype = PARSERS[version](text)
    except (*DAMAGED, struct.error) as error:
        raise DataError(
            f"{where} is no readable .npy array ({_first_line(error)}); write it again with numpy.save"
        ) from error
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which are not read for safety; save plain numbers")
    if dtype.kind in "US":
        raise DataError(
            f"{where} holds text; save numbers, of classes their index: numpy.unique(names, "
            "return_inverse=True)[1]"
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(f"{where} holds {dtype}; save numbers: integers, or floats of at most 64 bits")
    if len(shape) > MAX_RANK or any(type(size) is not int or not 0 <= size < MAX_SIZE for size in shape):
        raise DataError(f"{where} is no readable .npy array (shape {shape}); write it again with numpy.save")
    return Header(dtype, tuple(shape), bool(fortran), np.lib.format.MAGIC_LEN + len(length) + size)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
