"""A small Transformer encoder that classifies sequences of tokens."""

import math

import numpy as np
import onnx
from onnx import TensorProto

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.builder import Builder


def build(
    *,
    tokens: int = 64,
    length: int = 16,
    classes: int = 10,
    width: int = 32,
    heads: int = 2,
    layers: int = 2,
    seed: int = 0,
) -> onnx.ModelProto:
    """``tokens`` (B, T) int64, each below ``tokens``, to ``logits`` (B, classes), by the mean over T.

    Layers are pre-norm: attention, then a GELU network four times as wide. GELU is written with Erf.
    Products with weights are MatMuls of (B, T, C) and (C, N); those of attention have rank 4.

    Raises:
        GraphError: ``width`` is no multiple of ``heads``.
    """
    if width % heads:
        raise GraphError(f"the width of a transformer is a multiple of its heads; got {width} and {heads}")
    b = Builder("transformer", seed)
    table = b.uniform("embedding.weight", (tokens, width), 0.5)
    position = b.uniform("position", (length, width), 0.5)
    x = b.op("Add", "embedded", [b.op("Gather", "embedding", [table, "tokens"]), position])
    for i in range(layers):
        name = f"layers.{i}"
        y = _attention(b, f"{name}.attention", _norm(b, f"{name}.norm1", x, width), length, width, heads)
        x = b.op("Add", f"{name}.add1", [x, y])
        y = b.token_linear(f"{name}.fc1", _norm(b, f"{name}.norm2", x, width), width, 4 * width)
        y = b.token_linear(f"{name}.fc2", _gelu(b, f"{name}.gelu", y), 4 * width, width)
        x = b.op("Add", f"{name}.add2", [x, y])
    axes = b.constant("pool.axes", np.array([1], np.int64))
    x = b.op("ReduceMean", "pool", [_norm(b, "norm", x, width), axes], keepdims=0)
    y = b.linear("head", x, width, classes, gain=3)
    return b.model("tokens", [length], y, classes, kind=TensorProto.INT64)


def _norm(b: Builder, name: str, x: str, width: int) -> str:
    weight = b.constant(f"{name}.weight", np.ones(width, np.float32))
    bias = b.constant(f"{name}.bias", np.zeros(width, np.float32))
    return b.op("LayerNormalization", name, [x, weight, bias], axis=-1, epsilon=1e-5)


def _attention(b: Builder, name: str, x: str, length: int, width: int, heads: int) -> str:
    split = b.constant("attention.split", np.array([0, length, heads, width // heads], np.int64))
    join = b.constant("attention.join", np.array([0, length, width], np.int64))
    scale = b.constant("attention.scale", np.array(math.sqrt(heads / width), np.float32))

    def head(part: str, order: list[int]) -> str:
        y = b.token_linear(f"{name}.{part}", x, width, width)
        y = b.op("Reshape", f"{name}.{part}.split", [y, split])
        return b.op("Transpose", f"{name}.{part}.heads", [y], perm=order)

    query, key, value = head("q", [0, 2, 1, 3]), head("k", [0, 2, 3, 1]), head("v", [0, 2, 1, 3])
    scores = b.op("Mul", f"{name}.scaled", [b.op("MatMul", f"{name}.scores", [query, key]), scale])
    y = b.op("MatMul", f"{name}.mix", [b.op("Softmax", f"{name}.softmax", [scores], axis=-1), value])
    y = b.op("Transpose", f"{name}.back", [y], perm=[0, 2, 1, 3])
    return b.token_linear(f"{name}.out", b.op("Reshape", f"{name}.join", [y, join]), width, width)


def _gelu(b: Builder, name: str, x: str) -> str:
    """``x / 2 * (1 + erf(x / sqrt(2)))``."""
    root = b.constant("gelu.sqrt2", np.array(math.sqrt(2), np.float32))
    one = b.constant("gelu.one", np.array(1, np.float32))
    half = b.constant("gelu.half", np.array(0.5, np.float32))
    y = b.op("Erf", f"{name}.erf", [b.op("Div", f"{name}.div", [x, root])])
    y = b.op("Mul", f"{name}.mul", [x, b.op("Add", f"{name}.add", [y, one])])
    return b.op("Mul", name, [y, half])
