"""The networks of `torch_models`: small ones of the kinds that users train; ten classes."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
nn: Any = torch.nn
CLASSES = 10


class Residual(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions with BatchNorm; a 1x1 convolution on the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet(nn.Module):  # type: ignore[misc]
    """Stem, one block as it is, one with stride 2; `(B, 3, 16, 16)` -> `(B, 10)`."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = Residual(width, width, 1)
        self.layer2 = Residual(width, 2 * width, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2 * width, CLASSES)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.pool(self.layer2(self.layer1(y)))
        return self.fc(torch.flatten(y, 1))


class InvertedResidual(nn.Module):  # type: ignore[misc]
    """MobileNet block: 1x1 expand, 3x3 depthwise, 1x1 project; shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Callable[[], Any]) -> None:
        super().__init__()
        hidden = 4 * inputs
        self.shortcut = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            activation(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            activation(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Any) -> Any:
        y = self.body(x)
        return x + y if self.shortcut else y


def mobilenet(activation: Callable[[], Any]) -> Any:
    """Three blocks after a strided stem; `(B, 3, 16, 16)` -> `(B, 10)`."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        activation(),
        InvertedResidual(8, 8, 1, activation),
        InvertedResidual(8, 12, 2, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(12, CLASSES),
    )


def mlp() -> Any:
    """`(B, 64)` -> `(B, 10)`."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))


def vgg() -> Any:
    """Convolutions with bias and no BatchNorm, max pooling, dropout; `(B, 3, 16, 16)` -> `(B, 10)`."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 32),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(32, CLASSES),
    )


class Attention(nn.Module):  # type: ignore[misc]
    """Multi-head self-attention written out: rank-3 times 2-D products, and rank-4 ones inside."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        B, T, C = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * (C // self.heads) ** -0.5
        y = torch.softmax(scores, dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class ModuleAttention(nn.Module):  # type: ignore[misc]
    """The same by `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


class EncoderLayer(nn.Module):  # type: ignore[misc]
    """Pre-norm encoder layer with GELU."""

    def __init__(self, width: int, attention: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):  # type: ignore[misc]
    """Two encoder layers on token codes, mean over time; int64 `(B, 8)`, 0 <= token < 20 -> `(B, 10)`."""

    def __init__(self, attention: Callable[[int, int], Any], width: int = 16, length: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.Sequential(*(EncoderLayer(width, attention(width, 2)) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Any) -> Any:
        x = self.layers(self.embedding(tokens) + self.position)
        return self.head(self.norm(x).mean(1))


def conv1d() -> Any:
    """`(B, 4, 32)` -> `(B, 10)`; a stride, a dilation, BatchNorm, average pooling."""
    return nn.Sequential(
        nn.Conv1d(4, 8, 5, stride=2, padding=2),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=2),
        nn.ReLU(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Linear(8 * 8, CLASSES),
    )


def conv3d() -> Any:
    """`(B, 1, 6, 8, 8)` -> `(B, 10)`."""
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Conv3d(4, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )


class Lstm(nn.Module):  # type: ignore[misc]
    """Tokens, LSTM, the last step; int64 `(B, 8)` -> `(B, 10)`."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, tokens: Any) -> Any:
        y, _ = self.lstm(self.embedding(tokens))
        return self.head(y[:, -1])


class Gru(nn.Module):  # type: ignore[misc]
    """Tokens, a bidirectional GRU, the mean over time; int64 `(B, 8)` -> `(B, 10)`."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, tokens: Any) -> Any:
        y, _ = self.gru(self.embedding(tokens))
        return self.head(y.mean(1))


class Norm(nn.Module):  # type: ignore[misc]
    """RMSNorm, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class RotaryAttention(nn.Module):  # type: ignore[misc]
    """Causal, with rotary positions and half as many keys and values as queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def rotated(self, x: Any) -> Any:
        steps = torch.arange(x.shape[2]).float()
        angles = steps[:, None] / 100 ** (torch.arange(0, self.size, 2).float() / self.size)
        angles = torch.cat([angles, angles], -1)
        a, b = x.chunk(2, -1)
        return x * torch.cos(angles) + torch.cat([-b, a], -1) * torch.sin(angles)

    def forward(self, x: Any) -> Any:
        B, T, C = x.shape
        q = self.q(x).view(B, T, self.heads, self.size).transpose(1, 2)
        k, v = self.kv(x).view(B, T, 2, self.heads // 2, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.rotated(q), self.rotated(k).repeat_interleave(2, 1)
        y = nn.functional.scaled_dot_product_attention(q, k, v.repeat_interleave(2, 1), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(B, T, C))


class Gated(nn.Module):  # type: ignore[misc]
    """SwiGLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Any) -> Any:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Llama(nn.Module):  # type: ignore[misc]
    """One layer, the last position; int64 `(B, 8)`, 0 <= token < 20 -> `(B, 10)`."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, width)
        self.norm1, self.norm2, self.norm = Norm(width), Norm(width), Norm(width)
        self.attention = RotaryAttention(width, 4)
        self.mlp = Gated(width, 24)
        self.head = nn.Linear(width, CLASSES, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.embedding(tokens)
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.norm(x)[:, -1])


class UNet(nn.Module):  # type: ignore[misc]
    """Down once, up again in three ways; `(B, 3, 16, 16)` -> `(B, 10)`."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(2, width)
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.norm2 = nn.InstanceNorm2d(2 * width, affine=True)
        self.up = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.shuffle = nn.Conv2d(2 * width, 4 * width, 1)
        self.join = nn.Conv2d(5 * width, width, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Any) -> Any:
        F = nn.functional
        high = torch.relu(self.norm1(self.stem(x)))
        low = torch.relu(self.norm2(self.down(high)))
        linear = F.interpolate(low, scale_factor=2, mode="bilinear")
        parts = [high, self.up(low), F.pixel_shuffle(self.shuffle(low), 2), linear]
        return self.head(torch.relu(self.join(torch.cat(parts, 1))).amax((2, 3)))
