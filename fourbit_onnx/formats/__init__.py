"""Number formats and scale rules: NumPy only, no graph, no ONNX."""
