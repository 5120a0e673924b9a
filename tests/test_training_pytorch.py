"""With the recipe ``fp32``: loss and every gradient are PyTorch's, as far as `torch_reference` derives."""

import numpy as np
import pytest
import torch_models as tm
from torch_reference import (
    BY_NAME,
    RELATIVE,
    SLOW,
    Reference,
    check_gradients,
    prepared,
    targets,
    trained_by_default,
)
from training_graph import batch_of, compiled, gradients, step

torch = pytest.importorskip("torch")
nn = torch.nn
F = torch.nn.functional

WITHOUT_BATCHNORM = ("mlp", "vgg", "transformer", "transformer_module", "lstm")
ZEROS = {"mobilenet_relu6": ["3.body.7.bias"], "mobilenet_hardswish": ["3.body.7.bias"],
         "conv1d": ["0.bias"], "conv3d": ["0.bias"], "unet": ["down.bias"]}  # fmt: skip


@pytest.mark.parametrize("exporter", BY_NAME)
@pytest.mark.parametrize("name", tm.MODELS)
def test_loss_and_every_gradient(name, exporter):
    _, module, example = prepared(name, exporter)
    labels = targets("cross_entropy")
    graph = trained_by_default(name, exporter)
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), labels))
    single, exact = Reference(module, example, labels), Reference(module, example, labels, exact=True)
    assert outputs["loss"] == pytest.approx(single.loss, rel=RELATIVE)
    assert check_gradients(gradients(graph, outputs), single, exact) == ZEROS.get(name, [])


@pytest.mark.parametrize("loss", ["mse", "l1", "bce_with_logits"])
@pytest.mark.parametrize(
    ("name", "exporter"), [("resnet", "torchscript"), pytest.param("transformer", "dynamo_raw", marks=SLOW)]
)
def test_other_losses(name, exporter, loss):
    model, module, example = prepared(name, exporter)
    labels = targets(loss)
    graph = compiled(model, loss=loss)
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), labels))
    single, exact = (Reference(module, example, labels, loss, exact=wide) for wide in (False, True))
    assert outputs["loss"] == pytest.approx(single.loss, rel=RELATIVE)
    assert not check_gradients(gradients(graph, outputs), single, exact)


def lstm_rows(array):
    """PyTorch's gates (i, f, g, o) in ONNX's order (i, o, f, g), with the axis of directions."""
    i, f, g, o = np.split(array, 4)
    return np.concatenate([i, o, f, g])[None]


def views(arrays):
    """Each array under the forms in which the dynamo exporter may store it."""
    for name, array in arrays.items():
        yield name, array
        if array.ndim == 2:
            yield f"{name} turned", array.T
        if "lstm.weight" in name:
            yield f"{name} gates", lstm_rows(array)
        if "lstm.bias_ih" in name:
            both = [lstm_rows(array), lstm_rows(arrays[name.replace("_ih", "_hh")])]
            yield f"{name} gates", np.concatenate(both, 1)


@SLOW
@pytest.mark.parametrize("name", WITHOUT_BATCHNORM)
def test_parameters_that_the_exporter_renames(name):
    """Plain dynamo turns weights and names them ``val_3``: find them by their values."""
    _, module, example = prepared(name, "dynamo")
    labels = targets("cross_entropy")
    graph = trained_by_default(name, "dynamo")
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), labels))
    single = Reference(module, example, labels)
    assert outputs["loss"] == pytest.approx(single.loss, rel=RELATIVE)
    values, expected = dict(views(single.parameters)), dict(views(single.gradients))
    covered = set()
    for parameter, gradient in gradients(graph, outputs).items():
        stored = graph.state[parameter]
        found = [n for n, v in values.items() if v.shape == stored.shape and np.array_equal(v, stored)]
        assert found, parameter
        reference = expected[found[0]]
        assert np.abs(gradient - reference).max() <= RELATIVE * np.abs(reference).max(), parameter
        covered.add(found[0].split()[0])
    missing = set(single.gradients) - covered
    assert missing == ({"lstm.bias_hh_l0"} if name == "lstm" else set())  # covered with bias_ih


@SLOW
@pytest.mark.parametrize("name", ["resnet", "conv1d", "conv3d", "mobilenet_relu6"])
def test_folded_batchnorm_is_the_module_in_evaluation(name):
    """Plain dynamo folds BatchNorm into the convolution: the model it gives has no statistics to train."""
    _, module, example = prepared(name, "dynamo")
    labels = targets("cross_entropy")
    graph = trained_by_default(name, "dynamo")
    assert not graph.manifest.buffers
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), labels))
    assert outputs["loss"] == pytest.approx(Reference(module.eval(), example, labels).loss, rel=RELATIVE)


class Positions(nn.Module):
    """Scores for every position: ``(B, 8)`` tokens to ``(B, 8, 10)``."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, tokens):
        return self.head(torch.tanh(self.embedding(tokens)))


def pixels():
    """Scores for every pixel: ``(B, 3, 16, 16)`` to ``(B, 10, 16, 16)``."""
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 10, 1))


@SLOW
@pytest.mark.parametrize("kind", ["positions", "pixels"])
def test_cross_entropy_of_many_labels(kind, tmp_path):
    """Of rank 3, classes are last (batch, position, class); of rank 4, on axis 1, as in PyTorch."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = Positions() if kind == "positions" else pixels()
    example = tm.make("transformer" if kind == "positions" else "resnet")[1]
    shape = (tm.BATCH, 8) if kind == "positions" else (tm.BATCH, 16, 16)
    labels = np.random.default_rng(1).integers(0, 10, shape)

    def loss(scores, wanted):
        return F.cross_entropy(scores.transpose(1, 2) if scores.ndim == 3 else scores, wanted)

    model = tm.onnx.load(tm.export(module, example, tmp_path / "model.onnx", "dynamo_raw"))
    graph = compiled(model)
    outputs = step(graph, graph.state, batch_of(graph, example.numpy(), labels))
    single, exact = (Reference(module, example, labels, loss, exact=wide) for wide in (False, True))
    assert outputs["loss"] == pytest.approx(single.loss, rel=RELATIVE)
    check_gradients(gradients(graph, outputs), single, exact)
    best = module(example).argmax(2 if kind == "positions" else 1).numpy()
    assert outputs["accuracy"] == np.float32((best == labels).mean())  # a count and a quotient
