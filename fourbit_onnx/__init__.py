"""Train ONNX models with 4-bit weights, activations and gradients, on CPUs."""

from fourbit_onnx.errors import FourbitError

__version__ = "0.1.0"

__all__ = ["FourbitError", "__version__"]
