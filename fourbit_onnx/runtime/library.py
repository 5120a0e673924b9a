"""The native library: where it is, which instruction set it uses, how a session gets it.

Without it every model still runs, on the function bodies of the operators, with the same bits and
much slower; so a library that is absent is reported, and one that is present but broken is an error.

Environment: ``FOURBIT_LIBRARY=none`` runs without it, ``FOURBIT_LIBRARY=path`` takes another file;
``FOURBIT_ISA=scalar|avx2|avx512vnni`` forces an instruction set.
"""

import ctypes
import functools
import importlib.metadata
import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fourbit_onnx.errors import LibraryError

_NAMES = ("libfourbit_onnx.so", "libfourbit_onnx.dylib", "libfourbit_onnx.dll", "fourbit_onnx.dll")
_TABLE_VERSION = 3
_REMEDY = "build it with: pip install -e ."


class _SessionOptions(Protocol):
    @property
    def intra_op_num_threads(self) -> int: ...

    def register_custom_ops_library(self, path: str) -> None: ...


class _Kernel(ctypes.Structure):
    """``FourbitKernel`` of kernels/table.cc."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("isa", ctypes.c_char_p),
        ("supported", ctypes.c_int32),
        ("function", ctypes.c_void_p),
    )


class KernelTable(ctypes.Structure):
    """``FourbitKernels`` of kernels/table.cc: every kernel variant, and the instruction set in use."""

    _fields_ = (
        ("version", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("cols", ctypes.c_int32),
        ("count", ctypes.c_int32),
        ("kernels", ctypes.POINTER(_Kernel)),
        ("isa", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        ("select", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_char_p)),
        ("threads", ctypes.CFUNCTYPE(None, ctypes.c_int64)),
    )

    def variants(self) -> Mapping[str, tuple[str, bool, int]]:
        """Name of a variant → its instruction set, whether this CPU runs it, its address."""
        listed = (self.kernels[i] for i in range(self.count))
        return {k.name.decode(): (k.isa.decode(), bool(k.supported), k.function) for k in listed}


def path() -> Path | None:
    """The library's file, or None if it was not built or is switched off.

    Raises:
        LibraryError: FOURBIT_LIBRARY names a file that does not exist.
    """
    wanted = os.environ.get("FOURBIT_LIBRARY", "")
    if wanted == "none":
        return None
    if wanted:
        if not Path(wanted).is_file():
            raise LibraryError(f"FOURBIT_LIBRARY is {wanted!r}, not a file; name a built library, or 'none'")
        return Path(wanted)
    # Not beside __file__: an editable install puts it into site-packages.
    folder = importlib.resources.files("fourbit_onnx.runtime")
    for name in _NAMES:
        file = folder.joinpath(name)
        if file.is_file():
            return Path(str(file))
    return None


def require() -> Path:
    """The library's file.

    Raises:
        LibraryError: there is none, or it cannot be used.
    """
    file = path()
    if file is None:
        if os.environ.get("FOURBIT_LIBRARY") == "none":
            raise LibraryError("the native library is switched off by FOURBIT_LIBRARY=none; unset it")
        raise LibraryError(f"the native library {_NAMES[0]} is not in fourbit_onnx/runtime; {_REMEDY}")
    table(file)
    return file


def table(file: Path | None = None) -> KernelTable:
    """The kernel table of the library, by default of the one in use.

    Raises:
        LibraryError: there is no library, or it cannot be loaded, or is of another version.
    """
    return _load(file or require())


@functools.cache
def _load(file: Path) -> KernelTable:
    try:
        entry = ctypes.CDLL(str(file)).fourbit_kernels
    except (OSError, AttributeError) as error:
        raise LibraryError(f"the native library {file} cannot be loaded ({error}); {_REMEDY}") from error
    entry.restype = ctypes.POINTER(KernelTable)
    found: KernelTable = entry().contents
    if found.version != _TABLE_VERSION:
        raise LibraryError(
            f"the native library {file} is of version {found.version}, expected {_TABLE_VERSION}; {_REMEDY}"
        )
    return found


def isa() -> str:
    """The instruction set in use: ``scalar``, ``avx2``, ``avx512vnni``; ``none`` without a library.

    Raises:
        LibraryError: the library is broken, or FOURBIT_ISA names what this machine cannot run.
    """
    file = path()
    if file is None:
        return "none"
    found = table(file)
    wanted = os.environ.get("FOURBIT_ISA", "")
    refused: bytes = found.select(wanted.encode()) if wanted else b""
    if refused:
        raise LibraryError(f"FOURBIT_ISA: {refused.decode()}")
    current: bytes = found.isa()
    return current.decode()


def register(session_options: _SessionOptions) -> bool:
    """Give a session the native operators; False if there is no library and the bodies will run.

    Raises:
        LibraryError: there is a library, and it cannot be used.
    """
    if path() is None:
        return False
    file = require()
    isa()  # its refusal is one sentence; ONNX Runtime's wraps it
    table(file).threads(session_options.intra_op_num_threads)  # ONNX Runtime does not tell operators
    try:
        session_options.register_custom_ops_library(str(file))
    except Exception as error:  # whatever ONNX Runtime raises here means the same
        raise LibraryError(f"ONNX Runtime refuses the native library {file} ({error}); {_REMEDY}") from error
    return True


def describe() -> str:
    """One sentence on the library, for people."""
    try:
        file = path()
        if file is not None:
            return f"native kernels: {isa()}, {require()}"
        switched_off = os.environ.get("FOURBIT_LIBRARY") == "none"
        reason = "FOURBIT_LIBRARY=none" if switched_off else _why_not_built()
    except LibraryError as error:
        return f"native kernels: broken: {error}"
    return f"native kernels: none ({reason}); models run on function bodies: the same numbers, much slower"


def _why_not_built() -> str:
    here = Path(__file__).parents[1]
    if any(file.is_file() and here not in file.parents for file in _installed()):
        return f"Python found {here} before the installed package; start it in another folder, or {_REMEDY}"
    return f"not built; {_REMEDY}"


def _installed() -> list[Path]:
    """Where the library of the installed package would be; a clone that Python is started in hides it."""
    try:
        package = importlib.metadata.distribution("fourbit_onnx")
    except importlib.metadata.PackageNotFoundError:
        return []
    return [Path(str(package.locate_file(f"fourbit_onnx/runtime/{name}"))) for name in _NAMES]
