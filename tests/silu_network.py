"""A small network whose convolutions read what SiLU gives."""

import math

import numpy as np
import onnx

TEXT = """<ir_version: 10, opset_import: ["": 21]>
silu (float[N,2,4,4] image) => (float[N,2] logits) {
    c = Conv <pads = [1, 1, 1, 1]> (image, a) s = Sigmoid (c) m = Mul (c, s)
    d = Conv <pads = [1, 1, 1, 1]> (m, b) e = Sigmoid (d) n = Mul (d, e)
    p = GlobalAveragePool (n) f = Flatten (p) logits = Gemm <transB = 1> (f, w)
}"""


def silu_network():
    """``image`` (N, 2, 4, 4) to ``logits`` (N, 2); the second convolution is the site between the ends."""
    model = onnx.parser.parse_model(TEXT)
    for name, shape in {"a": (2, 2, 3, 3), "b": (2, 2, 3, 3), "w": (2, 2)}.items():
        values = np.linspace(-1, 1, math.prod(shape), dtype=np.float32).reshape(shape)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model
