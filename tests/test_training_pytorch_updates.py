"""With the recipe ``fp32``: running statistics and updates are PyTorch's."""

import numpy as np
import pytest
from torch_reference import BY_NAME, RELATIVE, SLOW, U, prepared, targets, trained_by_default
from training_graph import batch_of, step

from fourbit_onnx.api import convert
from fourbit_onnx.runtime.trainer import Trainer

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

# Means of up to 1536 numbers, in both libraries in vectors of 8 or more, so that at most about 200 roundings
# follow each other; they are random, so that sqrt(200) u is typical, and 32 u is twice that.
STATISTICS = 32 * U


@pytest.mark.parametrize("exporter", BY_NAME)
@pytest.mark.parametrize("name", ["resnet", "mobilenet_relu6", "conv1d", "conv3d"])
def test_running_statistics(name, exporter):
    """ONNX defines running_var by the variance over the batch (divided by n), PyTorch by n - 1.

    The rest, momentum included, is the same. So (new - 0.9 * old) of ours is (n - 1) / n of PyTorch's, and
    both follow from their definitions. n is what a channel has in the batch.
    """
    _, module, example = prepared(name, exporter)
    graph = trained_by_default(name, exporter)
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), targets("cross_entropy")))
    counts = {}

    def counting(key):
        def hook(part, inputs, output):
            counts[key] = inputs[0].numel() / inputs[0].shape[1]

        return hook

    for key, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.register_forward_hook(counting(key))
    before = {key: value.numpy().copy() for key, value in module.state_dict().items()}
    with torch.no_grad():
        module(example)
    after = module.state_dict()
    assert len(graph.manifest.buffers) == 2 * len(counts) > 0
    for buffer, output in graph.manifest.buffers.items():
        key, statistic = buffer.rsplit(".", 1)
        expected = after[buffer].numpy()
        tolerance = STATISTICS * np.abs(expected).max()
        if statistic == "running_var":
            correction = (expected - 0.9 * before[buffer]) / counts[key]
            assert np.abs(correction).max() > 4 * tolerance  # or the test could not tell
            expected = expected - correction
        assert np.abs(outputs[output] - expected).max() <= tolerance, buffer


OPTIMIZERS = {
    "sgd": ({"momentum": 0.0, "weight_decay": 0.0}, torch.optim.SGD, {}),
    "momentum": ({"weight_decay": 0.0}, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": ({"nesterov": True, "weight_decay": 0.05}, torch.optim.SGD,
                 {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    "decay": ({"momentum": 0.5, "weight_decay": 0.1}, torch.optim.SGD,
              {"momentum": 0.5, "weight_decay": 0.1}),
    "max_norm": ({"weight_decay": 0.0, "max_norm": 0.25}, torch.optim.SGD, {"momentum": 0.9}),
    "adamw": ({"optimizer": "adamw", "weight_decay": 0.0}, torch.optim.AdamW, {"weight_decay": 0.0}),
    "adamw_decay": ({"optimizer": "adamw", "weight_decay": 0.3}, torch.optim.AdamW, {"weight_decay": 0.3}),
}  # fmt: skip
RATES = [0.05, 0.1, 0.1, 0.02, 0.02]


@pytest.mark.parametrize("name", ["mlp", pytest.param("resnet", marks=SLOW)])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_five_steps(name, optimizer, tmp_path):
    """Through the trainer, each step with its own rate and batch, decay on matrices and filters only;
    parameters, losses and running means.

    The comparison of parameters is in the norm of a tensor, relative to how far it went: an element with
    next to no gradient has no direction, and Adam divides by its size. Gradients agree to 1e-6 or so, and
    five steps of a smooth network amplify that by far less than 1000.
    """
    ours, theirs, settings = OPTIMIZERS[optimizer]
    scale = 0.02 if optimizer.startswith("adamw") else 1.0
    model, module, example = prepared(name, "torchscript")
    convert(model, tmp_path / "out", recipe="fp32", **ours)
    trainer = Trainer(tmp_path / "out", threads=1)
    first = trainer.state.tensors
    decayed = [p for p in module.parameters() if p.ndim > 1]
    other = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed}, {"params": other, "weight_decay": 0.0}]
    rule = theirs(groups, lr=1.0, **settings)
    rng = np.random.default_rng(11)
    losses = []
    for rate in RATES:
        x = rng.standard_normal(example.shape).astype(np.float32)
        labels = rng.integers(0, 10, len(x))
        for group in rule.param_groups:
            group["lr"] = scale * rate
        rule.zero_grad()
        loss = F.cross_entropy(module(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        if "max_norm" in ours:
            norm = nn.utils.clip_grad_norm_(module.parameters(), ours["max_norm"])
            assert norm > 2 * ours["max_norm"]  # or the test tests nothing
        rule.step()
        losses.append((trainer.step((x, labels), learning_rate=scale * rate)["loss"], loss.item()))
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=RELATIVE)
    last = trainer.state.tensors
    for key, parameter in module.named_parameters():
        expected = parameter.detach().numpy()
        moved = np.linalg.norm(expected - first[key])
        assert moved > 0
        assert np.linalg.norm(last[key] - expected) <= 1e-3 * moved, key
    for key, statistic in module.named_buffers():
        if key.endswith("running_mean"):
            expected = statistic.numpy()
            moved = np.linalg.norm(expected - first[key])
            assert np.linalg.norm(last[key] - expected) <= 1e-3 * moved, key
