"""Train ONNX models with 4-bit weights, activations and gradients, on CPUs."""

from typing import TYPE_CHECKING, Any

from fourbit_onnx.errors import FourbitError

if TYPE_CHECKING:
    from fourbit_onnx.api import check, convert, export
    from fourbit_onnx.recipes.recipe import Quantizer, Recipe
    from fourbit_onnx.runtime.trainer import Trainer

__version__ = "0.1.0"

__all__ = ["FourbitError", "Quantizer", "Recipe", "Trainer", "__version__", "check", "convert", "export"]

# Loaded at first use: `import fourbit_onnx` stays quick.
_HOMES = {
    "Quantizer": "fourbit_onnx.recipes.recipe",
    "Recipe": "fourbit_onnx.recipes.recipe",
    "Trainer": "fourbit_onnx.runtime.trainer",
    "check": "fourbit_onnx.api",
    "convert": "fourbit_onnx.api",
    "export": "fourbit_onnx.api",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
