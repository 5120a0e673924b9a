"""A language model of LSTM layers."""

import onnx
from onnx import TensorProto

from fourbit_onnx.models.builder import Builder


def build(
    *,
    tokens: int = 96,
    length: int = 64,
    width: int = 64,
    hidden: int = 128,
    layers: int = 1,
    seed: int = 0,
) -> onnx.ModelProto:
    """``tokens`` (B, T) int64, each below ``tokens``, to ``logits`` (B, T, tokens) of the next one.

    An embedding of ``width`` numbers, ``layers`` LSTMs of ``hidden`` cells, a head of its own weights.
    """
    b = Builder("lstm_lm", seed)
    table = b.uniform("embedding.weight", (tokens, width), 0.5)
    x = b.op("Gather", "embedding", [table, "tokens"])
    x, inputs = b.op("Transpose", "time_first", [x], perm=[1, 0, 2]), width
    for i in range(layers):
        x, inputs = b.lstm(f"lstm{i + 1}", x, inputs, hidden), hidden
    x = b.op("Transpose", "batch_first", [x], perm=[1, 0, 2])
    y = b.token_linear("head", x, hidden, tokens)
    return b.model("tokens", [length], y, [length, tokens], kind=TensorProto.INT64)
