"""A small Transformer encoder that classifies sequences of tokens."""

import numpy as np
import onnx
from onnx import TensorProto

from fourbit_onnx.models import layers as parts
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
    parts.check_heads(width, heads)
    b = Builder("transformer", seed)
    x = parts.embed(b, "", "tokens", tokens, length, width)
    for i in range(layers):
        x = parts.layer(b, f"layers.{i}", x, width, heads, length=length)
    axes = b.constant("pool.axes", np.array([1], np.int64))
    x = b.op("ReduceMean", "pool", [parts.norm(b, "norm", x, width), axes], keepdims=0)
    y = b.linear("head", x, width, classes, gain=3)
    return b.model("tokens", [length], y, [classes], kind=TensorProto.INT64)
