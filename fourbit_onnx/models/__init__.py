"""Reference models as float32 ONNX; they know nothing of four bits."""
