"""``.npz`` files: arrays by name, as ``numpy.savez`` and ``numpy.savez_compressed`` write them."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import npy, paths
from fourbit_onnx.errors import DataError

Array = NDArray[Any]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for what is no intact archive; NotImplementedError for a version, a compression or an
# encryption that it does not know.
_UNREADABLE = (zipfile.BadZipFile, OSError, ValueError, NotImplementedError)


def read(path: Path, keys: Mapping[str, str] | None = None, *, limit: int = paths.LIMIT) -> dict[str, Array]:
    """The arrays of the file, by name.

    ``keys`` gives the key of each array wanted: ``{"image": "x_train", "labels": "y_train"}``; others are not
    touched. Without it all are read. Sizes are checked first: what an array's header, the archive's directory
    and the file's own length say must agree, and come to at most ``limit`` bytes.

    Raises:
        DataError: The file is missing, damaged or hostile, too large, or an array is not there or no numbers.
    """
    with paths.opened(path) as file:
        length = file.seek(0, 2)
        try:
            archive = zipfile.ZipFile(file)
        except _UNREADABLE as error:
            raise _damaged(path, error) from error
        with archive:
            members = _members(archive, path)
            if sum(member.compress_size for member in members.values()) > length:
                raise DataError(f"{path} is damaged: its directory lists more bytes than the file has")
            wanted = paths.chosen(keys, list(members), str(path))
            total = sum(members[key].file_size for key in set(wanted.values()))
            paths.check_size(
                total, limit, str(path), "save the arrays as .npy files in a folder, which are not loaded"
            )
            return {name: _read_member(archive, members[key], path) for name, key in wanted.items()}


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if not member.filename.endswith(".npy"):
            raise DataError(f"{path} holds {member.filename!r}, which is no array; write it with numpy.savez")
        key = member.filename[: -len(".npy")]
        if key in members:
            raise DataError(f"{path} holds {key!r} twice; write it again with numpy.savez")
        members[key] = member
    return members


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Array:
    where = f"{member.filename!r} in {path}"
    if member.compress_type not in _METHODS:
        raise DataError(f"{where} is compressed in an unknown way; write it with numpy.savez_compressed")
    if member.flag_bits & 1:
        raise DataError(f"{where} is encrypted; save it without a password")
    if member.file_size > paths.DEFLATE * (member.compress_size + 1):
        raise DataError(
            f"{where} claims {member.file_size} bytes from {member.compress_size}, which is impossible"
        )
    try:
        with archive.open(member) as raw:
            stream = cast(BinaryIO, raw)
            header = npy.read_header(stream, where)
            found = member.file_size - header.start
            paths.check_length(header.nbytes, found, where, "write it again with numpy.savez")
            flat = np.empty(header.nbytes, np.uint8)
            _fill(stream, flat.data)  # with the last byte, the checksum is compared
    except (*_UNREADABLE, zlib.error, EOFError) as error:
        raise _damaged(path, error) from error
    array = flat.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
    return array if header.dtype.isnative else array.astype(header.dtype.newbyteorder("="))


def _fill(stream: BinaryIO, rest: memoryview) -> None:
    while len(rest):
        part = stream.read(min(len(rest), 1 << 20))
        if not part:
            raise EOFError("the numbers end early")
        rest[: len(part)] = part
        rest = rest[len(part) :]


def _damaged(path: Path, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} is no intact .npz file ({reason}); copy it again, or write it with numpy.savez")
