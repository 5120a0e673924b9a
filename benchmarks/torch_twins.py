"""The models of `fourbit bench` in PyTorch, with the weights of the ONNX model, found by name."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from fourbit_onnx.models import mobilenet

RESNET = {18: (2, 2, 2, 2), 8: (1, 1, 1), 14: (2, 2, 2), 20: (3, 3, 3)}


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, group: int = 1) -> nn.Conv2d:
    """Padded by half the kernel, without bias."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=group, bias=False)


class Block(nn.Module):
    """A basic block of ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W)."""
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
    """With the small stem."""

    def __init__(self, depth: int, input_shape: Sequence[int], classes: int, width: int, stem: str) -> None:
        super().__init__()
        assert stem == "small"
        self.conv1, self.bn1 = conv(input_shape[0], width, 3), nn.BatchNorm2d(width)
        self.stages, channels = [], width
        for stage, count in enumerate(RESNET[depth]):
            blocks = []
            for block in range(count):
                blocks.append(Block(channels, width << stage, 2 if stage and not block else 1))
                channels = width << stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            self.stages.append(f"layer{stage + 1}")
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, classes)."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual of MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = unit(inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = unit(hidden, hidden, 3, stride, hidden)
        self.project = nn.Sequential(conv(hidden, outputs, 1), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W)."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, group: int = 1) -> nn.Sequential:
    """Convolution, normalisation, ReLU6."""
    return nn.Sequential(
        conv(inputs, outputs, kernel, stride, group), nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True)
    )


class MobileNetV2(nn.Module):
    """The model of the paper, width 1."""

    def __init__(self, input_shape: Sequence[int], classes: int, full: bool) -> None:
        super().__init__()
        assert full
        layers, channels = [unit(input_shape[0], 32, 3, 2)], 32
        for expansion, outputs, count, stride in mobilenet.FULL:
            for block in range(count):
                layers.append(Inverted(channels, outputs, expansion, 1 if block else stride))
                channels = outputs
        self.features = nn.Sequential(*layers, unit(channels, 1280, 1))
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, classes)."""
        return self.classifier(self.features(x).mean((2, 3)))


class Attention(nn.Module):
    """Of all positions over all, by PyTorch's fused operator."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C)."""
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, C)."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """An encoder that classifies."""

    def __init__(self, tokens: int, classes: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) to (B, classes)."""
        x = self.embedding(tokens) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


class LstmLm(nn.Module):
    """A language model of LSTM layers, by PyTorch's own LSTM."""

    def __init__(self, tokens: int, length: int, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        del length  # whatever the data has
        self.embedding = nn.Embedding(tokens, width)
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, tokens)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, T) to (B, T, tokens)."""
        return self.head(self.lstm(self.embedding(tokens))[0])


def build(model: str, options: Mapping[str, Any], weights: onnx.ModelProto) -> nn.Module:
    """The PyTorch twin of a model of `models.registry`, with the weights of ``weights``.

    Raises:
        KeyError: There is no twin, or a weight is missing.
    """
    makers = {"mobilenetv2": MobileNetV2, "transformer": Transformer, "lstm_lm": LstmLm}
    depth = int(model.removeprefix("resnet")) if model.startswith("resnet") else 0
    network = ResNet(depth, **options) if depth else makers[model](**options)
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in weights.graph.initializer}
    products = {name for node in weights.graph.node if node.op_type == "MatMul" for name in node.input}
    state = {}
    for name, own in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = own
        elif name.startswith("lstm."):
            state[name] = torch.from_numpy(_lstm(name, given))
        else:
            state[name] = torch.from_numpy(given[name].T.copy() if name in products else given[name].copy())
    network.load_state_dict(state)
    return network.train()


def _lstm(name: str, given: Mapping[str, np.ndarray]) -> np.ndarray:
    """PyTorch's ``lstm.weight_ih_l0`` from ONNX's ``lstm1.weight_ih``: gates i, f, g, o from i, o, f, g."""
    part, layer = name.removeprefix("lstm.").rsplit("_l", 1)
    prefix = f"lstm{int(layer) + 1}."
    if part.startswith("bias"):
        half = np.split(given[f"{prefix}bias"][0], 2)[part == "bias_hh"]
    else:
        half = given[prefix + part][0]
    i, o, f, g = np.split(half, 4)
    return np.concatenate([i, f, g, o])
