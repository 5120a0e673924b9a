"""What this installation consists of, and whether that fits together."""

import importlib.metadata
import os
import platform

from fourbit_onnx.errors import LibraryError
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.selftest import Check
from fourbit_onnx.runtime.session import available_processors

_PACKAGES = ("onnx", "onnx-graphsurgeon", "numpy", "safetensors", "click", "rich")
_OPTIONAL = ("matplotlib", "scipy", "jinja2")
_TRAINING = ("onnxruntime-training-cpu", "onnxruntime-training")
_VERSION = "1.19.2"


def versions() -> dict[str, str]:
    """Package to version; "" if it is not installed."""
    return {name: _version(name) for name in ("fourbit_onnx", *_TRAINING, *_PACKAGES, *_OPTIONAL)}


def checks() -> list[Check]:
    """Python, ONNX Runtime, the native library, the processors."""
    return [_python(), _onnxruntime(), _library(), _processors(), _plot()]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _python() -> Check:
    return Check("Python", True, f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def _onnxruntime() -> Check:
    """One distribution, with the gradient builder, of the version that is known."""
    import onnxruntime
    from onnxruntime.capi import _pybind_state as builder

    name, found = "ONNX Runtime", onnxruntime.__version__
    remedy = (
        "pip uninstall -y onnxruntime onnxruntime-gpu && "
        "pip install --force-reinstall onnxruntime-training-cpu==1.19.2"
    )
    if others := [other for other in ("onnxruntime", "onnxruntime-gpu") if _version(other)]:
        return Check(name, False, f"{others[0]} is installed over the training build; {remedy}")
    if not hasattr(builder, "GradientGraphBuilder"):
        return Check(name, False, f"{found} is no training build; {remedy}")
    if found != _VERSION:
        return Check(name, False, f"{found}, but this works with {_VERSION}; {remedy}")
    return Check(name, True, f"{found}, training build")


def _library() -> Check:
    """Absent is allowed, broken is not."""
    try:
        file = library.path()
        if file is not None:
            library.require()
            usable = sorted({isa for isa, supported, _ in library.table().variants().values() if supported})
            return Check(
                "native library", True, f"{file}; runs {library.isa()}, could run {', '.join(usable)}"
            )
    except LibraryError as error:
        return Check("native library", False, str(error))
    return Check("native library", True, library.describe().removeprefix("native kernels: "))


def _processors() -> Check:
    return Check("processors", True, f"{available_processors()} of {os.cpu_count()} may be used")


def _plot() -> Check:
    found = _version("matplotlib")
    return Check(
        "plots",
        True,
        f"matplotlib {found}" if found else "none: matplotlib is not installed (the extra 'plot')",
    )
