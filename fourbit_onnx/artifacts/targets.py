"""Where a file may be written that takes the place of another by a rename."""

import stat
from pathlib import Path

from fourbit_onnx.errors import ArtifactError


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
