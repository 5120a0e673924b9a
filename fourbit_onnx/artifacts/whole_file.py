"""A file that is written whole or not at all: beside its place first, then renamed."""

import contextlib
import errno
import os
import secrets
import stat
import tempfile
from pathlib import Path

from fourbit_onnx.errors import ArtifactError


def write(path: Path, content: bytes | str) -> None:
    """Write ``content``, text in UTF-8, to ``path``; folders above it are made.

    Whoever reads ``path`` meanwhile, and after a crash, sees the file of before or the new one. A symbolic
    link is replaced, not followed.

    Raises:
        ArtifactError: It cannot be written; what was there is untouched, and nothing is left beside it.
    """
    check(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # Ctrl-C, too
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ArtifactError(
            f"cannot write {path}: {error.strerror or error}; nothing was left behind: "
            f"{remedy(error, path.parent)}"
        ) from error


def check_place(path: Path) -> None:
    """Refuse, before long work, what `write` would refuse after it: a folder, or a place for no file.

    Raises:
        ArtifactError: It is one.
    """
    check(path)
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder; choose the name of a file")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    try:
        try_folder(above)
    except OSError as error:
        raise ArtifactError(
            f"cannot write {path}: {error.strerror or error}; {remedy(error, above)}"
        ) from error


def try_folder(folder: Path) -> None:
    """Make a file in ``folder`` that is gone at once.

    Raises:
        OSError: It takes none.
    """
    with tempfile.TemporaryFile(dir=folder):
        pass


def make_folder(path: Path) -> bool:
    """Make the folder ``path``, with those above it, and say whether it was not there yet.

    Raises:
        ArtifactError: A file is there, or it cannot be made.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError as error:
        if not path.is_dir():
            raise ArtifactError(f"{path} is a file; choose a folder as the output") from error
        return False
    except OSError as error:
        raise ArtifactError(
            f"cannot make {path}: {error.strerror or error}; {remedy(error, path.parent)}"
        ) from error
    return True


def check(path: Path) -> None:
    """Refuse a device, FIFO or socket: renamed over, it would be gone, and a file in its place.

    A symbolic link is what it points to. What cannot be looked at is left to the write, which says why.

    Raises:
        ArtifactError: It is one.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder: the rename refuses it
        raise ArtifactError(
            f"{path} is a device, FIFO or socket, so it is not overwritten; choose the name of a file"
        )


def remedy(error: OSError, folder: Path) -> str:
    """What to do, in a few words, so that something can be written in ``folder``."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"make {folder} writable"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return "choose another name"
    if error.errno == errno.ENOENT:  # folders above are made: where none can be, as in /proc
        return "choose another place"
    return "remove the cause"
