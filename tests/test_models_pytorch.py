"""The reference models compute what the same networks compute in PyTorch, written apart from them."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from fourbit_onnx.models.registry import build

torch = pytest.importorskip("torch")
F = torch.nn.functional


class Weights:
    """The model's parameters by layer, and PyTorch's layers on them."""

    def __init__(self, model):
        self.held = {
            t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer
        }
        self.used = set()

    def __getitem__(self, name):
        self.used.add(name)
        return self.held[name]

    def conv(self, name, x, stride=1, pad=0, groups=1):
        bias = self[f"{name}.bias"] if f"{name}.bias" in self.held else None
        return F.conv2d(x, self[f"{name}.weight"], bias, stride, pad, groups=groups)

    def norm(self, name, x):
        mean, variance = self[f"{name}.running_mean"], self[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, self[f"{name}.weight"], self[f"{name}.bias"], eps=1e-5)

    def linear(self, name, x):
        return F.linear(x, self[f"{name}.weight"], self[f"{name}.bias"])

    def layer_norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self[f"{name}.weight"], self[f"{name}.bias"])

    def tokens(self, name, x):
        return x @ self[f"{name}.weight"] + self[f"{name}.bias"]


def mlp(w, x):
    x = x.flatten(1)
    return w.linear("fc3", w.linear("fc2", w.linear("fc1", x).relu()).relu())


def resnet(blocks, large=False):
    def forward(w, x):
        x = w.norm("bn1", w.conv("conv1", x, 2 if large else 1, 3 if large else 1)).relu()
        if large:
            x = F.max_pool2d(x, 3, 2, 1)
        for stage, count in enumerate(blocks, 1):
            for block in range(count):
                name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = w.norm(f"{name}.bn1", w.conv(f"{name}.conv1", x, stride, 1)).relu()
                y = w.norm(f"{name}.bn2", w.conv(f"{name}.conv2", y, 1, 1))
                if f"{name}.downsample.0.weight" in w.held:
                    x = w.norm(f"{name}.downsample.1", w.conv(f"{name}.downsample.0", x, stride))
                x = (x + y).relu()
        return w.linear("fc", x.mean((2, 3)))

    return forward


def vgg(w, x):
    for stage in range(3):
        for i in (1, 2):
            x = w.conv(f"features.{stage}.conv{i}", x, 1, 1)
            if f"features.{stage}.bn{i}.weight" in w.held:
                x = w.norm(f"features.{stage}.bn{i}", x)
            x = x.relu()
        x = F.max_pool2d(x, 2)
    return w.linear("classifier.fc2", w.linear("classifier.fc1", x.flatten(1)).relu())


def mobilenet(strides):
    def unit(w, name, x, *args):
        return F.relu6(w.norm(f"{name}.1", w.conv(f"{name}.0", x, *args)))

    def forward(w, x):
        stem, *blocks = strides
        x = unit(w, "features.0", x, stem, 1)
        for i, stride in enumerate(blocks, 1):
            name, y = f"features.{i}", x
            if f"{name}.expand.0.weight" in w.held:
                y = unit(w, f"{name}.expand", y)
            y = unit(w, f"{name}.depthwise", y, stride, 1, y.shape[1])
            y = w.norm(f"{name}.project.1", w.conv(f"{name}.project.0", y))
            x = x + y if x.shape == y.shape else y
        return w.linear("classifier", unit(w, f"features.{len(strides)}", x).mean((2, 3)))

    return forward


def transformer(w, tokens):
    x = w["embedding.weight"][tokens] + w["position"]
    for i in range(2):
        name = f"layers.{i}"
        y = w.layer_norm(f"{name}.norm1", x)
        q, k, v = (w.tokens(f"{name}.attention.{p}", y).unflatten(2, (2, -1)).transpose(1, 2) for p in "qkv")
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + w.tokens(f"{name}.attention.out", y)
        y = F.gelu(w.tokens(f"{name}.fc1", w.layer_norm(f"{name}.norm2", x)))
        x = x + w.tokens(f"{name}.fc2", y)
    return w.linear("head", w.layer_norm("norm", x).mean(1))


SMALL = {"input_shape": (3, 12, 16)}
CASES = [
    ("mlp", {}, mlp),
    ("resnet8", SMALL, resnet((1, 1, 1))),
    ("resnet20", SMALL, resnet((3, 3, 3))),
    ("resnet18", {"input_shape": (3, 50, 64), "width": 16}, resnet((2, 2, 2, 2), large=True)),
    ("resnet18", {"stem": "small", "width": 16}, resnet((2, 2, 2, 2))),
    ("vgg", SMALL, vgg),
    ("vgg", {**SMALL, "batch_norm": False}, vgg),
    ("mobilenetv2", SMALL, mobilenet([1, 1, 2, 1, 2, 1])),
    (
        "mobilenetv2",
        {"input_shape": (3, 64, 64), "full": True, "width": 0.5},
        mobilenet([2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]),
    ),
    ("transformer", {}, transformer),
]


@pytest.mark.parametrize(("name", "options", "forward"), CASES)
def test_same_as_pytorch(name, options, forward):
    model = build(name, **options)
    rng = np.random.default_rng(1)
    for tensor in model.graph.initializer:  # off the zeros and ones of the start, or they hide errors
        part = tensor.name.rpartition(".")[2]
        if tensor.data_type == 1 and len(tensor.dims) == 1:
            # Let ReLU6 reach its 6, but not through 52 layers: rounding would grow with every one.
            large = 4 if name == "mobilenetv2" and "full" not in options else 1.5
            low, high = {"running_var": (1.5, 4), "weight": (0.5, large)}.get(part, (-0.5, 0.5))
            value = rng.uniform(low, high, tensor.dims).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    shape = [4, *(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:])]
    x = rng.integers(0, 64, shape) if name == "transformer" else rng.standard_normal(shape).astype(np.float32)

    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [got] = session.run(None, {model.graph.input[0].name: x})
    w = Weights(model)
    with torch.no_grad():
        expected = forward(w, torch.from_numpy(x)).numpy()

    # Two float32 evaluations, summed in different order, through up to 54 layers. Each layer adds an error of
    # about sqrt(n) * 2**-24 relative to its sums, n <= 4608: 4e-6, and the errors of layers add in squares:
    # 3e-5 of the largest logit. A wrong stride, epsilon of 1e-3 or missing bias gives 1e-3 and more.
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-5 * np.abs(expected).max())
    numbers = {t.name for t in model.graph.initializer if t.data_type == 1 and t.dims}
    assert w.used == numbers  # PyTorch's side used every parameter
