"""LSTMs of PyTorch, exported, written out and differentiated: loss and gradients are PyTorch's."""

import functools

import numpy as np
import onnx
import pytest
from torch_models import EXPORTERS, export, torch
from training_graph import batch_of, compiled, gradients, step

nn, F = torch.nn, torch.nn.functional

LENGTH, COUNT, FEATURES, CLASSES = 7, 4, 5, 6


class Network(nn.Module):
    """Features through LSTMs, every position to scores; the last states are read too."""

    def __init__(self, *, batch_first=True, given=False, **options):
        super().__init__()
        self.given = given
        self.lstm = nn.LSTM(FEATURES, 8, batch_first=batch_first, **options)
        sides = 2 if options.get("bidirectional") else 1
        self.head = nn.Linear(8 * sides, CLASSES)
        self.last = nn.Linear(8, CLASSES)
        self.first = nn.Parameter(torch.rand(sides * options.get("num_layers", 1), 1, 8) - 0.5)

    def forward(self, x):
        states = None
        if self.given:
            batch = x.shape[0] if self.lstm.batch_first else x.shape[1]
            states = (self.first.expand(-1, batch, -1).contiguous(), self.first.expand(-1, batch, -1) * 2)
        y, (h, c) = self.lstm(x, states)
        y = self.head(y if self.lstm.batch_first else y.transpose(0, 1)).mean(1)
        return y + self.last(h.sum(0)) + self.last(c.mean(0))


NETWORKS = {
    "one layer": {},
    "time first": {"batch_first": False},
    "stacked": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "stacked, bidirectional": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
    "states given": {"given": True},
    "states given, stacked, bidirectional": {"given": True, "num_layers": 2, "bidirectional": True},
}
CASES = [
    pytest.param(
        name, exporter, marks=[] if exporter == "torchscript" and "stacked, " in name else pytest.mark.slow
    )
    for name in NETWORKS
    for exporter in EXPORTERS
]


@functools.cache
def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = Network(**NETWORKS[name])
        shape = (COUNT, LENGTH) if module.lstm.batch_first else (LENGTH, COUNT)
        return module, torch.randn(*shape, FEATURES)


def exported(name, exporter, path):
    """With a batch of ``COUNT``: the axis of the batch is not always the first."""
    module, example = network(name)
    if module.lstm.batch_first:
        return onnx.load(export(module, example, path / "model.onnx", exporter))
    options = (
        {"do_constant_folding": False} if exporter == "torchscript" else {"optimize": exporter == "dynamo"}
    )
    torch.onnx.export(
        module, (example,), path / "model.onnx", dynamo=exporter != "torchscript", verbose=False,
        input_names=["input"], output_names=["output"],
        **options,
    )  # fmt: skip
    return onnx.load(path / "model.onnx")


@pytest.mark.filterwarnings("ignore")  # the exporters warn of being old, of LSTM with a dynamic batch
@pytest.mark.parametrize(("name", "exporter"), CASES)
def test_loss_and_gradients_are_those_of_pytorch(name, exporter, tmp_path):
    module, example = network(name)
    graph = compiled(exported(name, exporter, tmp_path))
    assert not any(node.op_type.startswith("LSTM") for node in graph.training.graph.node)
    labels = np.arange(COUNT)
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), labels))

    loss = F.cross_entropy(module(example), torch.tensor(labels))
    module.zero_grad()
    loss.backward()
    # Some hundred float32 operations, each right to 1e-7, on a path through 2 layers of 7 steps whose
    # factors are below 1: 1e-4 is ample; a wrong gate, step or direction is off by its own size.
    assert outputs["loss"] == pytest.approx(loss.item(), rel=1e-4)
    found = gradients(graph, outputs)
    names = {key for key, parameter in module.named_parameters() if parameter.grad is not None}
    if exporter == "dynamo":  # it stores weights under names and in forms of its own
        assert len(found) >= 3
        return
    assert names <= set(found)
    for key, parameter in module.named_parameters():
        if key in names:
            expected = parameter.grad.numpy()
            assert np.abs(found[key] - expected).max() <= 1e-4 * np.abs(expected).max(), key
