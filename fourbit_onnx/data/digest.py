"""SHA-256 of arrays: is data what it was?"""

import hashlib
import math
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from fourbit_onnx.data.checks import Array

_AT_ONCE = 16 << 20  # bytes; a file mapped into memory may be larger than the memory


def sha256(arrays: Iterable[tuple[str, Array]], types: Mapping[str, npt.DTypeLike] | None = None) -> str:
    """The digest of names, types, shapes and values, in this order, in hexadecimal.

    Args:
        arrays: Names and arrays, of at least one dimension.
        types: Name to the element type that is digested, where it is not the array's own: so labels are the
            same as int32 and as int64.
    """
    total = hashlib.sha256()
    for name, array in arrays:
        dtype = np.dtype((types or {}).get(name, array.dtype))
        total.update(f"{name} {dtype} {array.shape} ".encode())
        rows = max(1, _AT_ONCE // max(1, dtype.itemsize * math.prod(array.shape[1:])))
        for start in range(0, len(array), rows):
            total.update(np.asarray(array[start : start + rows], dtype=dtype, order="C").tobytes())
    return total.hexdigest()
