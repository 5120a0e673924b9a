"""IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped."""

import gzip
import math
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import paths
from fourbit_onnx.errors import DataError

Array = NDArray[Any]

# The third byte of a file: big-endian numbers of these types.
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PREFIX = {"train": "train", "test": "t10k"}


def read(path: Path, *, limit: int = paths.LIMIT) -> Array:
    """The array of one file: 0, 0, type, rank, a 32-bit size for each axis, then the numbers.

    Raises:
        DataError: The file is missing, damaged, too large, or shorter or longer than its header says.
    """
    remedy = "download it again"
    with ExitStack() as stack:
        file = stack.enter_context(paths.opened(path))
        length = file.seek(0, 2)
        file.seek(0)
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if zipped:
            file = cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=file)))
        try:
            dtype, shape = _header(file, path)
            nbytes = math.prod(shape) * dtype.itemsize
            # Python takes the memory for as many bytes as are asked for: ask for no more than there can be.
            paths.check_size(nbytes, limit, str(path), "save the numbers as .npy files in a folder")
            if zipped:
                paths.check_length(nbytes, min(nbytes, paths.DEFLATE * length), str(path), remedy)
            else:
                paths.check_length(nbytes, length - file.tell(), str(path), remedy)
            data = file.read(nbytes)
            found = len(data) + len(file.read(1))  # at the end, the checksum is compared
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is damaged ({error}); {remedy}") from error
    paths.check_length(nbytes, found, str(path), remedy)
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_folder(
    folder: Path, split: str = "train", names: Sequence[str] = ("image", "labels")
) -> dict[str, Array]:
    """Images (N, 1, H, W) float32 in [0, 1] and labels (N,) int64 of a folder laid out as MNIST's.

    ``split`` is "train" (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``) or "test" (``t10k-...``),
    with ``.gz`` or without.

    Raises:
        DataError: A file is missing or refused, or the two do not fit each other.
    """
    parts = []
    for kind, rank in (("images", 3), ("labels", 1)):
        stem = f"{PREFIX[split]}-{kind}-idx{rank}-ubyte"
        path = next((p for p in (folder / stem, folder / f"{stem}.gz") if p.exists()), None)
        if path is None:
            raise DataError(f"{folder} has no {stem} or {stem}.gz; put it there")
        array = read(path)
        if array.ndim != rank or array.dtype != np.uint8:
            raise DataError(f"{path} holds {array.dtype} of rank {array.ndim}, uint8 of rank {rank} expected")
        parts.append(array)
    images, labels = parts
    if len(images) != len(labels):
        raise DataError(
            f"{folder} has {len(images)} images but {len(labels)} labels in {split}; download both again"
        )
    pixels = np.divide(images[:, None], np.float32(255), dtype=np.float32)
    return {names[0]: pixels, names[1]: labels.astype(np.int64)}


def _header(file: BinaryIO, path: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 8:
        raise DataError(
            f"{path} is no IDX file: it begins with {magic.hex(' ') or 'nothing'}, 00 00 08 03 expected"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} is cut short in its header; download it again")
    return np.dtype(TYPES[magic[2]]), tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
