"""Loss and gradients of a PyTorch module, to compare those of its export with.

The criterion is the issue's: 1e-4 relative. For a gradient that is relative to the largest |gradient| of the
tensor: an element far below it is a sum that cancels, and its own size says nothing about rounding.

Some gradients are zero by symmetry, whatever the data: that of a bias whose only way to the loss is through
a BatchNorm, which subtracts it again. Float arithmetic gives noise there, and noise relative to noise is no
test. Float64 tells which ones these are. Such a gradient is the sum over n positions of d, the gradient at
the output that the bias is added to, and the bound is that of a sum (Higham 2002, section 4.2), per channel:

    |computed| <= (n + 100) * u * sum |d|,     u = 2**-24

n roundings of the sum in any order, and 100 u for the error of each d: over all the weights below the worst
measured is 43 u of the largest.
"""

import copy
import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch_models as tm
from training_graph import compiled

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

RELATIVE = 1e-4
U = 2.0**-24
SLOW = pytest.mark.slow
# The exporters that keep names and BatchNorm; the newer one takes seconds a model.
BY_NAME = ("torchscript", pytest.param("dynamo_raw", marks=SLOW))

LOSSES = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}


def prepared(name, exporter):
    """Export, module and example; without dropout, so that both sides compute the same."""
    module, example = tm.make(name)
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return tm.onnx.load_from_string(_export(name, exporter)), module, example


@functools.cache
def _export(name, exporter):
    module, example = tm.make(name)
    dropouts = [part for part in module.modules() if isinstance(part, nn.Dropout)]
    if not dropouts:
        return tm.exported(name, exporter).SerializeToString()
    for part in dropouts:
        part.p = 0.0
    with tempfile.TemporaryDirectory() as folder:
        return tm.export(module, example, Path(folder) / "model.onnx", exporter).read_bytes()


@functools.cache
def trained_by_default(name, exporter):
    """The graphs for cross-entropy."""
    return compiled(prepared(name, exporter)[0])


def targets(loss, count=tm.BATCH, classes=10):
    rng = np.random.default_rng(7)
    if loss == "cross_entropy":
        return rng.integers(0, classes, count)
    if loss == "bce_with_logits":
        return rng.integers(0, 2, (count, classes)).astype(np.float32)
    return rng.standard_normal((count, classes)).astype(np.float32)


class Reference:
    """Loss, gradients and running statistics of a PyTorch module, and what bounds gradients that are zero.

    Args:
        module: Left as it is.
        example: The input.
        labels: What the loss compares with.
        loss: A key of ``LOSSES``, or a function of output and labels.
        exact: In float64.
    """

    def __init__(self, module, example, labels, loss="cross_entropy", *, exact=False):
        kind = torch.float64 if exact else torch.float32
        module = copy.deepcopy(module).to(kind)
        labels = torch.tensor(labels)
        parts = [p.to(kind) if p.is_floating_point() else p for p in (example, labels)]
        self.magnitudes, self.counts = {}, {}
        for name, part in module.named_modules():
            if isinstance(getattr(part, "bias", None), nn.Parameter):
                part.register_forward_hook(self._watch(f"{name}.bias"))
        value = LOSSES.get(loss, loss)(module(parts[0]), parts[1])
        value.backward()
        self.loss = value.item()
        self.gradients = {name: p.grad.numpy() for name, p in module.named_parameters()}
        self.parameters = {name: p.detach().numpy() for name, p in module.named_parameters()}
        self.buffers = {name: b.numpy() for name, b in module.named_buffers()}

    def _watch(self, name):
        """Note the sum of |d| of each channel (axis 1) when the gradient d at the output is known."""

        def measure(d):
            self.magnitudes[name] = d.abs().transpose(0, 1).flatten(1).sum(1).numpy()
            self.counts[name] = d.numel() / d.shape[1]

        def watch(module, inputs, output):
            output.register_hook(measure)

        return watch

    def zero(self, name):
        """Whether the gradient is zero by symmetry; asked of a float64 reference."""
        size = np.abs(self.gradients[name]).max()
        return name in self.magnitudes and size < 1e-12 * self.magnitudes[name].max()

    def bound(self, name):
        return (self.counts[name] + 100) * U * self.magnitudes[name]


def check_gradients(found, single, exact):
    """``found`` by PyTorch's names; every parameter of the module must be there."""
    assert set(found) == set(single.gradients)
    zeros = []
    for name, gradient in found.items():
        assert gradient.shape == single.gradients[name].shape
        if exact.zero(name):
            zeros.append(name)
            assert (np.abs(gradient) <= exact.bound(name)).all(), name
            continue
        for reference in (single, exact):
            expected = reference.gradients[name]
            assert np.abs(expected).max() > 0
            error = np.abs(gradient - expected).max() / np.abs(expected).max()
            assert error <= RELATIVE, f"{name}: {error:.2e}"
    return zeros
