"""What the readers share: opening a file, choosing arrays by name, a limit on memory."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fourbit_onnx.errors import DataError

# Deflate cannot do better than 1032 to 1: 258 bytes for 2 bits.
DEFLATE = 1032

# Readers that load into memory refuse more, unless told otherwise: what does not fit is not tried.
LIMIT = 8 << 30


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading bytes.

    Raises:
        DataError: It does not exist, is a folder, or may not be read.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"no data at {path}; give the path of an existing file") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder; give a file in it") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    with file:
        yield file


def chosen(keys: Mapping[str, str] | None, found: Sequence[str], where: str) -> dict[str, str]:
    """Which array of the file to take for each name; without ``keys``, every one by its own name.

    Raises:
        DataError: There is no such array, or none at all.
    """
    if not found:
        raise DataError(f"{where} holds no array; save some with numpy.savez(path, image=..., labels=...)")
    if keys is None:
        return {name: name for name in found}
    for name, key in keys.items():
        if key not in found:
            raise DataError(f"{where} has no array {key!r} for {name!r}; it has: {', '.join(found)}")
    return dict(keys)


def check_length(expected: int, found: int, where: str, remedy: str) -> None:
    """Refuse numbers that are fewer or more bytes than the header before them says.

    Raises:
        DataError: They are.
    """
    if found != expected:
        what = "cut short" if found < expected else "too long"
        raise DataError(f"{where} is {what}: {expected} bytes of numbers expected, {found} found; {remedy}")


def check_size(nbytes: int, limit: int, where: str, remedy: str) -> None:
    """Refuse what would take more memory than ``limit``, before it is taken.

    Raises:
        DataError: It would.
    """
    if nbytes > limit:
        raise DataError(
            f"{where} would take {nbytes / 2**30:.3g} GiB, more than {limit / 2**30:.3g}; {remedy}"
        )
