"""MobileNetV2: inverted residuals with depthwise convolutions and ReLU6."""

from collections.abc import Sequence

import onnx

from fourbit_onnx.models.builder import Builder

# (expansion, channels, blocks, stride of the first block): Sandler et al., "MobileNetV2: Inverted
# Residuals and Linear Bottlenecks", 2018, table 2.
FULL = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# For small images: fewer and narrower stages, the image halved twice.
SMALL = ((1, 8, 1, 1), (4, 16, 2, 2), (4, 24, 2, 2))


def build(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    width: float = 1.0,
    full: bool = False,
    seed: int = 0,
) -> onnx.ModelProto:
    """``image`` (B, C, H, W) to ``logits`` (B, classes).

    ``full`` is the model of the paper: a stem of stride 2, the stages of its table 2, 1280 last channels;
    else a small one of the same blocks. ``width`` multiplies the numbers of channels, which stay multiples
    of 8; the last ones of the full model never shrink.
    """
    stages, last = (FULL, max(1280, _channels(1280 * width))) if full else (SMALL, _channels(96 * width))
    channels = _channels((32 if full else 16) * width)
    b = Builder("mobilenetv2", seed)
    x = _unit(b, "features.0", "image", input_shape[0], channels, 3, stride=2 if full else 1)
    index = 1
    for expansion, outputs, count, first in stages:
        outputs = _channels(outputs * width)
        for block in range(count):
            x = _block(b, f"features.{index}", x, channels, outputs, expansion, first if not block else 1)
            channels, index = outputs, index + 1
    x = _unit(b, f"features.{index}", x, channels, last, 1)
    y = b.linear("classifier", b.global_average(x), last, classes, gain=3)
    return b.model("image", input_shape, y, [classes])


def _block(b: Builder, name: str, x: str, inputs: int, outputs: int, expansion: int, stride: int) -> str:
    hidden, y = inputs * expansion, x
    if expansion != 1:
        y = _unit(b, f"{name}.expand", y, inputs, hidden, 1)
    y = _unit(b, f"{name}.depthwise", y, hidden, hidden, 3, stride=stride, group=hidden)
    y = b.batch_norm(f"{name}.project.1", b.conv(f"{name}.project.0", y, hidden, outputs, 1), outputs)
    return b.op("Add", f"{name}.add", [x, y]) if stride == 1 and inputs == outputs else y


def _unit(
    b: Builder, name: str, x: str, inputs: int, outputs: int, kernel: int, *, stride: int = 1, group: int = 1
) -> str:
    x = b.conv(f"{name}.0", x, inputs, outputs, kernel, stride=stride, group=group)
    return b.relu6(f"{name}.2", b.batch_norm(f"{name}.1", x, outputs))


def _channels(wanted: float) -> int:
    """The multiple of 8 nearest to ``wanted``, at least 8 and at least 0.9 times it."""
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest
