"""A safetensors file of NumPy arrays, written in a stream and read only when its digest is right."""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fourbit_onnx.artifacts import digests
from fourbit_onnx.errors import ArtifactError

Array = npt.NDArray[Any]

# The element types of a state, by their safetensors names.
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_CODES = {dtype: code for code, dtype in DTYPES.items()}


def describe(tensors: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Name, element type and shape of every array, in order.

    Raises:
        ArtifactError: An element type that safetensors does not hold.
    """
    for name, array in tensors.items():
        if array.dtype.name not in _CODES:
            raise ArtifactError(
                f"cannot save {name!r} of type {array.dtype}; a state holds {', '.join(_CODES)}"
            )
    return [
        {"name": name, "dtype": _CODES[array.dtype.name], "shape": list(array.shape)}
        for name, array in tensors.items()
    ]


def write(path: Path, tensors: Mapping[str, Array]) -> str:
    """Write the arrays, wait until they are on the disk, and give the SHA-256 of the file.

    Only one array at a time is copied, and only if it is not contiguous.

    Raises:
        OSError: The disk is full, or other trouble with the file.
    """
    # Wide types first, as the format's own writer does, so that every array is aligned in the file.
    order = sorted(describe(tensors), key=lambda entry: (-_item_size(entry), entry["name"]))
    header: dict[str, Any] = {}
    offset = 0
    for entry in order:
        end = offset + tensors[entry["name"]].nbytes
        header[entry["name"]] = {
            "dtype": entry["dtype"], "shape": entry["shape"], "data_offsets": [offset, end],
        }  # fmt: skip
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for part in (struct.pack("<Q", len(text)), text):
            file.write(part)
            digest.update(part)
        for entry in order:
            array = tensors[entry["name"]]
            little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
            data = little.reshape(-1).view(np.uint8).data
            file.write(data)
            digest.update(data)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _item_size(entry: Mapping[str, Any]) -> int:
    return np.dtype(DTYPES[entry["dtype"]]).itemsize


def byte_count(entries: list[dict[str, Any]]) -> int:
    """The bytes that the arrays of ``entries`` take, without the header."""
    total = 0
    for entry in entries:
        count = 1
        for size in entry["shape"]:
            count *= size  # Python integers: a hostile shape cannot overflow
        total += count * _item_size(entry)
    return total


def read(path: Path, entries: list[dict[str, Any]], digest: str) -> dict[str, Array]:
    """The arrays of the file, in the order of ``entries``.

    Nothing is taken into memory before the size of the file, its digest and its header are found to be
    those that ``entries`` and ``digest`` announce; so never more than the file's own size.

    Raises:
        ArtifactError: The file is missing, cut short, or not the one that was announced.
    """
    try:
        size = path.stat().st_size
        if size < byte_count(entries):
            raise ArtifactError(
                f"{path} is cut short: {size} bytes, its arrays alone take {byte_count(entries)}"
            )
        if digests.of_file(path) != digest:
            raise ArtifactError(f"{path} is damaged: its SHA-256 is not the one that was written with it")
        with safe_open(path, framework="numpy") as opened:
            names = set(opened.keys())
            if names != {entry["name"] for entry in entries}:
                raise ArtifactError(f"{path} is damaged: it does not hold the arrays that are announced")
            tensors = {}
            for entry in entries:
                view = opened.get_slice(entry["name"])
                if view.get_dtype() != entry["dtype"] or list(view.get_shape()) != entry["shape"]:
                    raise ArtifactError(f"{path} is damaged: {entry['name']!r} is not as announced")
                tensors[entry["name"]] = opened.get_tensor(entry["name"])
            return tensors
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
