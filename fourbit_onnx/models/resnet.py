"""ResNet for small images (8, 14, 20 layers) and for large ones (18, 50 layers)."""

from collections.abc import Sequence

import onnx

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.builder import Builder

# Layers: (stem, blocks of each stage, channels of the first stage, expansion of a bottleneck or 1). A stage
# after the first halves the image and doubles the channels. He et al., "Deep Residual Learning for Image
# Recognition", 2016: tables 6 (small, n = 1, 2, 3) and 1 (18 and 50 layers).
DEPTHS = {
    8: ("small", (1, 1, 1), 16, 1),
    14: ("small", (2, 2, 2), 16, 1),
    20: ("small", (3, 3, 3), 16, 1),
    18: ("large", (2, 2, 2, 2), 64, 1),
    50: ("large", (3, 4, 6, 3), 64, 4),
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
    """ResNet of basic blocks (50 layers: bottlenecks), ``image`` (B, C, H, W) to ``logits`` (B, classes).

    Where the shape changes, the shortcut is a 1x1 convolution with batch normalisation (option B of the
    paper). ``width`` is the number of channels of the first stage. The stem "small" is a 3x3 convolution,
    "large" a 7x7 one with stride 2 and max pooling; 18 layers with "small" is the usual ResNet-18 for 32x32
    images. Any height and width will do: convolutions pad, and the last stage is averaged.

    Raises:
        GraphError: There is no such depth or stem.
    """
    if depth not in DEPTHS:
        raise GraphError(f"no ResNet with {depth} layers; there are: {', '.join(map(str, DEPTHS))}")
    default_stem, blocks, default_width, expansion = DEPTHS[depth]
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
            name, inner = f"layer{stage + 1}.{block}", width << stage
            x = _block(b, name, x, channels, inner, stride, expansion)
            channels = inner * expansion
    y = b.linear("fc", b.global_average(x), channels, classes, gain=3)
    return b.model("image", input_shape, y, [classes])


def _block(b: Builder, name: str, x: str, inputs: int, inner: int, stride: int, expansion: int) -> str:
    """Two 3x3 convolutions; with an expansion, a 3x3 one between two of 1x1, and the stride in the middle."""
    outputs = inner * expansion
    if expansion == 1:
        kernels = [(inputs, inner, 3, stride), (inner, inner, 3, 1)]
    else:
        kernels = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, outputs, 1, 1)]
    y = x
    for i, (ins, outs, kernel, step) in enumerate(kernels, 1):
        y = b.conv(f"{name}.conv{i}", y, ins, outs, kernel, stride=step)
        y = b.batch_norm(f"{name}.bn{i}", y, outs)
        if i < len(kernels):
            y = b.relu(f"{name}.relu{i}", y)
    if stride != 1 or inputs != outputs:
        x = b.conv(f"{name}.downsample.0", x, inputs, outputs, 1, stride=stride, pad=0)
        x = b.batch_norm(f"{name}.downsample.1", x, outputs)
    return b.relu(f"{name}.relu{len(kernels)}", b.op("Add", f"{name}.add", [y, x]))
