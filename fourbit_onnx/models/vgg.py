"""A small VGG: pairs of 3x3 convolutions, max pooling, two fully connected layers."""

from collections.abc import Sequence

import onnx

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.builder import Builder


def build(
    *,
    input_shape: Sequence[int] = (3, 32, 32),
    classes: int = 10,
    width: int = 32,
    stages: int = 3,
    batch_norm: bool = True,
    seed: int = 0,
) -> onnx.ModelProto:
    """``image`` (B, C, H, W) to ``logits`` (B, classes).

    Each stage is two convolutions of ``width * 2**stage`` channels and a pooling that halves the image; the
    hidden fully connected layer has as many units as the last stage has channels. Simonyan and Zisserman,
    "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015, with batch normalisation.
    Without it the convolutions have biases.

    Raises:
        GraphError: The image is too small to be halved ``stages`` times.
    """
    channels, height, across = input_shape
    if min(height, across) < 2**stages:
        raise GraphError(
            f"vgg halves the image {stages} times, which takes {2**stages} pixels; got {height}x{across}"
        )
    b = Builder("vgg", seed)
    x = "image"
    for stage in range(stages):
        for i in range(2):
            name, outputs = f"features.{stage}", width << stage
            x = b.conv(f"{name}.conv{i + 1}", x, channels, outputs, 3, bias=not batch_norm)
            if batch_norm:
                x = b.batch_norm(f"{name}.bn{i + 1}", x, outputs)
            x = b.relu(f"{name}.relu{i + 1}", x)
            channels = outputs
        x = b.op("MaxPool", f"{name}.pool", [x], kernel_shape=[2, 2], strides=[2, 2])
        height, across = height // 2, across // 2
    x = b.op("Flatten", "flatten", [x], axis=1)
    x = b.relu("classifier.relu", b.linear("classifier.fc1", x, channels * height * across, channels))
    y = b.linear("classifier.fc2", x, channels, classes, gain=3)
    return b.model("image", input_shape, y, [classes])
