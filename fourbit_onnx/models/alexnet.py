"""AlexNet's five convolutions and three fully connected layers, for small images."""

from collections.abc import Sequence

import onnx

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.builder import Builder

# Channels over ``width``, kernel, whether the image is halved after it: Krizhevsky et al., "ImageNet
# Classification with Deep Convolutional Neural Networks", 2012, has 48, 128, 192, 192, 128 channels a GPU.
_CONVOLUTIONS = ((1, 5, True), (3, 5, True), (4, 3, False), (4, 3, False), (3, 3, True))


def build(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    width: int = 32,
    hidden: int = 256,
    batch_norm: bool = True,
    seed: int = 0,
) -> onnx.ModelProto:
    """``image`` (B, C, H, W) to ``logits`` (B, classes).

    Convolutions of ``width`` times 1, 3, 4, 4, 3 channels, the image halved after the first, second and
    fifth; two fully connected layers of ``hidden`` units. Not as in the paper: stride 1 and a 5x5 kernel at
    first, for images of 32x32; batch normalisation instead of local response normalisation; no dropout.
    With ``batch_norm=False`` the convolutions have biases.

    Raises:
        GraphError: The image is too small to be halved three times.
    """
    channels, height, across = input_shape
    if min(height, across) < 8:
        raise GraphError(f"alexnet halves the image 3 times, which takes 8 pixels; got {height}x{across}")
    b = Builder("alexnet", seed)
    x = "image"
    for i, (times, kernel, halve) in enumerate(_CONVOLUTIONS):
        name, outputs = f"features.{i}", times * width
        x = b.conv(f"{name}.conv", x, channels, outputs, kernel, bias=not batch_norm)
        if batch_norm:
            x = b.batch_norm(f"{name}.bn", x, outputs)
        x = b.relu(f"{name}.relu", x)
        if halve:
            x = b.op("MaxPool", f"{name}.pool", [x], kernel_shape=[2, 2], strides=[2, 2])
            height, across = height // 2, across // 2
        channels = outputs
    x = b.op("Flatten", "flatten", [x], axis=1)
    size = channels * height * across
    for i in (1, 2):
        x, size = b.relu(f"classifier.relu{i}", b.linear(f"classifier.fc{i}", x, size, hidden)), hidden
    y = b.linear("classifier.fc3", x, hidden, classes, gain=3)
    return b.model("image", input_shape, y, [classes])
