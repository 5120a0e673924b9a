"""The resident memory of this process, where the system tells it (Linux)."""

from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int | None:
    """Bytes in memory now."""
    return _field("VmRSS")


def peak() -> int | None:
    """Most bytes in memory since the process began.

    Not ``ru_maxrss``, which begins with the memory of the parent at the moment of the fork.
    """
    return _field("VmHWM")


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith(f"{name}:")]
    return int(found[0][1]) * 1024 if found else None  # "VmHWM:  123 kB", which means KiB
