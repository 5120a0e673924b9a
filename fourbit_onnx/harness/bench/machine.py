"""The machine and the versions that a figure belongs to."""

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from fourbit_onnx.runtime import environment, library
from fourbit_onnx.runtime.session import available_processors

_PACKAGES = ("fourbit_onnx", "onnxruntime-training-cpu", "onnxruntime-training", "onnx", "numpy")
_CPUINFO = Path("/proc/cpuinfo")


def machine() -> dict[str, Any]:
    """Processor, cores, kernels in use, versions, day, and how busy the machine was."""
    versions = {name: text for name, text in environment.versions().items() if name in _PACKAGES and text}
    return {
        "processor": _processor(),
        "cores": available_processors(),
        "kernels": library.isa(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version(), **versions},
        "date": datetime.date.today().isoformat(),
        "load": _load(),
    }


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _load() -> float | None:
    """Processes that were running, mean of the last minute; more than 0 before a measurement is a warning."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
