"""A small vision Transformer."""

from collections.abc import Sequence

import numpy as np
import onnx

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models import layers as parts
from fourbit_onnx.models.builder import Builder


def build(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    patch: int = 4,
    width: int = 64,
    heads: int = 4,
    layers: int = 4,
    seed: int = 0,
) -> onnx.ModelProto:
    """``image`` (B, C, H, W) to ``logits`` (B, classes), by the mean over the patches.

    Patches of ``patch`` by ``patch`` pixels become tokens by a convolution of that stride, plus a trained
    position; then pre-norm layers as in the other Transformers. Dosovitskiy et al., "An Image is Worth 16x16
    Words", 2021, without the class token.

    Raises:
        GraphError: ``width`` is no multiple of ``heads``, or the image none of ``patch``.
    """
    parts.check_heads(width, heads)
    channels, height, across = input_shape
    if height % patch or across % patch:
        raise GraphError(f"an image for vit is a multiple of its patches; got {height}x{across} and {patch}")
    length = (height // patch) * (across // patch)
    b = Builder("vit", seed)
    x = b.conv("patches", "image", channels, width, patch, stride=patch, pad=0, bias=True)
    shape = b.constant("patches.shape", np.array([0, width, length], np.int64))
    x = b.op("Transpose", "tokens", [b.op("Reshape", "patches.rows", [x, shape])], perm=[0, 2, 1])
    x = b.op("Add", "embedded", [x, b.uniform("position", (length, width), 0.5)])
    for i in range(layers):
        x = parts.layer(b, f"layers.{i}", x, width, heads, length=length)
    axes = b.constant("pool.axes", np.array([1], np.int64))
    x = b.op("ReduceMean", "pool", [parts.norm(b, "norm", x, width), axes], keepdims=0)
    y = b.linear("head", x, width, classes, gain=3)
    return b.model("image", input_shape, y, [classes])
