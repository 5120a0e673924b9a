"""The products of ResNet-18, a Transformer and an LSTM that `kernels.py` measures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution: batch, input channels, image, output channels, kernel, stride."""

    name: str
    shape: tuple[int, int, int]
    outputs: int
    kernel: int
    stride: int = 1

    @property
    def image(self) -> int:
        """Height and width of the result."""
        return -(-self.shape[2] // self.stride)

    @property
    def operations(self) -> int:
        """Two a multiply-accumulate."""
        batch, inputs, _ = self.shape
        return 2 * batch * self.outputs * self.image**2 * inputs * self.kernel**2


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product [m, k] x [k, n]."""

    name: str
    m: int
    k: int
    n: int

    @property
    def operations(self) -> int:
        """Two a multiply-accumulate."""
        return 2 * self.m * self.k * self.n


CONVOLUTIONS = (
    Conv("ResNet-18, layer1, 3x3", (32, 64, 32), 64, 3),
    Conv("ResNet-18, layer2, 3x3/2", (32, 64, 32), 128, 3, 2),
    Conv("ResNet-18, layer2, 3x3", (32, 128, 16), 128, 3),
    Conv("ResNet-18, layer3, 3x3", (32, 256, 8), 256, 3),
    Conv("ResNet-18, layer4, 3x3", (32, 512, 4), 512, 3),
    Conv("ResNet-18, layer2, 1x1/2", (32, 64, 32), 128, 1, 2),
)
PRODUCTS = (
    Product("Transformer, q k v out", 1024, 512, 512),
    Product("Transformer, fc1", 1024, 512, 2048),
    Product("Transformer, fc2", 1024, 2048, 512),
    Product("LSTM, inputs of 64 steps", 2048, 256, 2048),
    Product("LSTM, one step", 32, 512, 2048),
)
