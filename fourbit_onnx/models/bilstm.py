"""A classifier of sequences of features, such as spoken words: bidirectional LSTM layers."""

from collections.abc import Sequence

import numpy as np
import onnx

from fourbit_onnx.models.builder import Builder


def build(
    *,
    input_shape: Sequence[int] = (50, 20),
    classes: int = 10,
    hidden: int = 64,
    layers: int = 2,
    seed: int = 0,
) -> onnx.ModelProto:
    """``features`` (B, T, F), ``input_shape = (T, F)``, to ``logits`` (B, classes), by the mean over T.

    ``layers`` LSTMs of ``hidden`` cells in each of both directions.
    """
    inputs = input_shape[1]
    b = Builder("bilstm", seed)
    x = b.op("Transpose", "time_first", ["features"], perm=[1, 0, 2])
    for i in range(layers):
        x, inputs = b.lstm(f"lstm{i + 1}", x, inputs, hidden, bidirectional=True), 2 * hidden
    axes = b.constant("pool.axes", np.array([0], np.int64))
    x = b.op("ReduceMean", "pool", [x, axes], keepdims=0)
    y = b.linear("head", x, inputs, classes, gain=3)
    return b.model("features", list(input_shape), y, [classes])
