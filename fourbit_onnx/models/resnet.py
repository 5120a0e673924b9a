"""ResNet for small images (8, 14, 20 layers) and for large ones (18 layers)."""

from collections.abc import Sequence

import onnx

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.builder import Builder

# Layers: (stem, blocks of each stage, channels of the first stage). A stage after the first halves the
# image and doubles the channels. He et al., "Deep Residual Learning for Image Recognition", 2016: tables
# 6 (small, n = 1, 2, 3) and 1 (18 layers).
DEPTHS = {
    8: ("small", (1, 1, 1), 16),
    14: ("small", (2, 2, 2), 16),
    20: ("small", (3, 3, 3), 16),
    18: ("large", (2, 2, 2, 2), 64),
}


def build(
    depth: int = 8,
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    width: int | None = None,
    stem: str | None = None,
    seed: int = 0,
) -> onnx.ModelProto:
    """ResNet of basic blocks, ``image`` (B, C, H, W) to ``logits`` (B, classes).

    Where the shape changes, the shortcut is a 1x1 convolution with batch normalisation (option B of the
    paper). ``width`` is the number of channels of the first stage. The stem "small" is a 3x3 convolution,
    "large" a 7x7 one with stride 2 and max pooling; 18 layers with "small" is the usual ResNet-18 for 32x32
    images. Any height and width will do: convolutions pad, and the last stage is averaged.

    Raises:
        GraphError: There is no such depth or stem.
    """
    if depth not in DEPTHS:
        raise GraphError(f"no ResNet with {depth} layers; there are: {', '.join(map(str, DEPTHS))}")
    default_stem, blocks, default_width = DEPTHS[depth]
    stem, width = stem or default_stem, width or default_width
    if stem not in ("small", "large"):
        raise GraphError(f"no stem {stem!r} of a ResNet; there are: small, large")

    b = Builder(f"resnet{depth}", seed)
    if stem == "small":
        x = b.conv("conv1", "image", input_shape[0], width, 3)
    else:
        x = b.conv("conv1", "image", input_shape[0], width, 7, stride=2)
    x = b.relu("relu", b.batch_norm("bn1", x, width))
    if stem == "large":
        x = b.op("MaxPool", "maxpool", [x], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    channels = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            x = _block(b, f"layer{stage + 1}.{block}", x, channels, width << stage, stride)
            channels = width << stage
    y = b.linear("fc", b.global_average(x), channels, classes, gain=3)
    return b.model("image", input_shape, y, [classes])


def _block(b: Builder, name: str, x: str, inputs: int, outputs: int, stride: int) -> str:
    y = b.conv(f"{name}.conv1", x, inputs, outputs, 3, stride=stride)
    y = b.relu(f"{name}.relu1", b.batch_norm(f"{name}.bn1", y, outputs))
    y = b.conv(f"{name}.conv2", y, outputs, outputs, 3)
    y = b.batch_norm(f"{name}.bn2", y, outputs)
    if stride != 1 or inputs != outputs:
        x = b.conv(f"{name}.downsample.0", x, inputs, outputs, 1, stride=stride, pad=0)
        x = b.batch_norm(f"{name}.downsample.1", x, outputs)
    return b.relu(f"{name}.relu2", b.op("Add", f"{name}.add", [y, x]))
