"""4-bit training as it is usually simulated: quantise and dequantise in float32, around PyTorch's products.

The recipe is `ibm2020-onephase`: weights INT4 by SAWB, activations UINT4 by PACT with a trained clip (INT4
where they may be negative), gradients radix-4 in two phases with a dithered scale. The first and the last
layer stay as they are. This is what the arithmetic costs without kernels of its own; only its time is of
interest, so scales are not those of our operators to the last bit.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

THRESHOLD = 3 / math.log(4)


def log4(dy: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The nearest of 0, ±scale, ±4 scale, ... ±4096 scale."""
    magnitude = dy.abs() / (scale * THRESHOLD)
    exponent = (torch.log2(magnitude.clamp_min(2**-40)) / 2).ceil().clamp_max(6)
    return torch.where(exponent < 0, 0.0, torch.exp2(2 * exponent) * scale) * dy.sign()


def phases(dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounded for the gradient of the input, and for that of the weight."""
    top = torch.exp2(torch.log2(dy.abs().amax().clamp_min(1e-26) / THRESHOLD).ceil())
    scale = top / 4096 * 4 ** torch.rand(())
    return log4(dy, scale), log4(dy, scale * 2)


def sawb(w: torch.Tensor) -> torch.Tensor:
    """Fifteen levels; gradients pass."""
    with torch.no_grad():
        alpha = 12.035 * w.square().mean().sqrt() - 12.03 * w.abs().mean()
        alpha = torch.where(alpha > w.abs().amax() / 16, alpha, w.abs().amax())
        step = alpha / 7
        rounded = (w / step).round().clamp(-7, 7) * step
    return w + (rounded - w).detach()


class Pact(torch.autograd.Function):
    """Sixteen levels from 0 to the clip."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
        """Rounds x."""
        step = clip / 15
        ctx.save_for_backward((x > 0) & (x < clip), x >= clip)
        return (x.clamp_min(0).minimum(clip) / step).round() * step

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """To x within the range, to the clip above it."""
        inside, above = ctx.saved_tensors
        return dy * inside, (dy * above).sum()


class Signed(torch.autograd.Function):
    """Fifteen levels from -clip to the clip."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
        """Rounds x."""
        step = clip / 7
        ctx.save_for_backward(x.abs() < clip, x)
        return (x / step).round().clamp(-7, 7) * step

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """To x within the range, to the clip outside."""
        inside, x = ctx.saved_tensors
        return dy * inside, (dy * x.sign() * ~inside).sum()


class Convolution(torch.autograd.Function):
    """A convolution whose two backward products have gradients of their own phase."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, w: torch.Tensor, stride: Any, padding: Any, groups: int
    ) -> torch.Tensor:
        """The convolution."""
        ctx.save_for_backward(x, w)
        ctx.how = (None, stride, padding, (1, 1), False, (0, 0), groups)
        return functional.conv2d(x, w, None, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Of the input with the even phase, of the weight with the odd one."""
        x, w = ctx.saved_tensors
        even, odd = phases(dy)
        grad = torch.ops.aten.convolution_backward
        dx = grad(even, x, w, *ctx.how, (True, False, False))[0]
        dw = grad(odd, x, w, *ctx.how, (False, True, False))[1]
        return dx, dw, None, None, None


class Product(torch.autograd.Function):
    """x @ w.T, the same way."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """The product."""
        ctx.save_for_backward(x, w)
        return functional.linear(x, w)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of x with the even phase, of w with the odd one."""
        x, w = ctx.saved_tensors
        even, odd = phases(dy)
        return even @ w, odd.flatten(0, -2).T @ x.flatten(0, -2)


class Fake(nn.Module):
    """A convolution or linear layer with quantised operands."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.clip = nn.Parameter(torch.zeros(()))
        self.quantizer: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the layer."""
        if self.quantizer is None:  # the first batch decides
            with torch.no_grad():
                self.clip.copy_(x.abs().amax())
            self.quantizer = Signed if bool((x < 0).any()) else Pact
        x, w = self.quantizer.apply(x, self.clip), sawb(self.layer.weight)
        if isinstance(self.layer, nn.Conv2d):
            return Convolution.apply(x, w, self.layer.stride, self.layer.padding, self.layer.groups)
        return Product.apply(x, w) + self.layer.bias


class FakeLstm(nn.Module):
    """An LSTM written out, as ours is; the product of the first inputs, the first site, stays as it is."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm
        self.inputs = nn.ModuleList()
        self.recurrent = nn.ModuleList()
        for layer in range(lstm.num_layers):
            product = self._linear(layer, "ih")
            self.inputs.append(Fake(product) if layer else product)
            self.recurrent.append(Fake(self._linear(layer, "hh")))

    def _linear(self, layer: int, part: str) -> nn.Linear:
        weight = getattr(self.lstm, f"weight_{part}_l{layer}")
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight, linear.bias = weight, getattr(self.lstm, f"bias_{part}_l{layer}")
        return linear

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """(B, T, C) to (B, T, H)."""
        for inputs, recurrent in zip(self.inputs, self.recurrent, strict=True):
            given, outputs = inputs(x), []
            h = c = x.new_zeros(x.shape[0], self.lstm.hidden_size)
            for step in range(x.shape[1]):
                # The first state is 0: nothing to calibrate a clip on, and nothing to multiply.
                i, f, g, o = (given[:, step] + (recurrent(h) if step else recurrent.layer.bias)).chunk(4, 1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                outputs.append(h)
            x = torch.stack(outputs, 1)
        return x, None


def fake(network: nn.Module) -> nn.Module:
    """Put `Fake` around all convolutions and linear layers but the first and the last; write LSTMs out."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.LSTM):
            setattr(network, name, FakeLstm(child))
            return network  # its head is the last site
    found = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, (nn.Conv2d, nn.Linear))
    ]
    order = {id(module): place for place, module in enumerate(network.modules())}
    found.sort(key=lambda entry: order[id(entry[2])])
    for parent, name, child in found[1:-1]:
        setattr(parent, name, Fake(child))
    return network
