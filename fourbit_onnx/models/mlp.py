"""A multilayer perceptron."""

import math
from collections.abc import Sequence

import onnx

from fourbit_onnx.models.builder import Builder


def build(
    *,
    input_shape: Sequence[int] = (1, 8, 8),
    classes: int = 10,
    hidden: Sequence[int] = (128, 128),
    seed: int = 0,
) -> onnx.ModelProto:
    """``image`` (B, *input_shape), flattened, through layers of ``hidden`` ReLUs, to ``logits`` (B, classes).

    The sizes may be any; an input of rank 2, ``input_shape=(64,)``, is not flattened.
    """
    b = Builder("mlp", seed)
    x = "image"
    if len(input_shape) > 1:
        x = b.op("Flatten", "flatten", [x], axis=1)
    size = math.prod(input_shape)
    for i, outputs in enumerate(hidden):
        x = b.relu(f"relu{i + 1}", b.linear(f"fc{i + 1}", x, size, outputs))
        size = outputs
    y = b.linear(f"fc{len(hidden) + 1}", x, size, classes, gain=3)
    return b.model("image", input_shape, y, [classes])
