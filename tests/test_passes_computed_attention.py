"""Attention as PyTorch exports it: known sizes are right, MACs are exact, training is what it was."""

import collections
import math

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from native import session
from torch_models import EXPORTERS, exported, nn, torch
from torch_networks import CLASSES
from torch_reference import SLOW, prepared, targets
from training_graph import batch_of, compiled

from fourbit_onnx.passes import standardize as standard
from fourbit_onnx.passes.sizes import Size
from fourbit_onnx.passes.standardize import standardize

MODELS = ["transformer", "transformer_module", "llama"]
EXPORTED = ["torchscript", *(pytest.param(name, marks=SLOW) for name in EXPORTERS if name != "torchscript")]

# tests/torch_networks.py, of one sample: 8 positions of width 16; products of the layers in their order.
QKV, OUT, MLP, HEAD = 8 * 16 * 48, 8 * 16 * 16, 8 * 16 * 32, 16 * 10
SCORES = {
    heads: heads * 8 * (16 // heads) * 8 for heads in (2, 4)
}  # heads of 8 by 8 scores, each a row's product
LAYER = [QKV, SCORES[2], SCORES[2], OUT, MLP, MLP]
MACS = {
    "transformer": [*LAYER, *LAYER, HEAD],
    "transformer_module": [*LAYER, *LAYER, HEAD],
    "llama": [OUT, OUT, SCORES[4], SCORES[4], OUT, *3 * [8 * 16 * 24], HEAD],
}
# Left operands: 128 elements (8 positions of width 16), scores of each head, hidden 2 * 16 and 24.
INPUTS = {
    "transformer": 2 * [128, 128, 2 * 64, 128, 128, 256] + [16],
    "transformer_module": 2 * [128, 128, 2 * 64, 128, 128, 256] + [16],
    "llama": [128, 128, 128, 4 * 64, 128, 128, 128, 192, 16],
}


@pytest.mark.parametrize("exporter", EXPORTED)
@pytest.mark.parametrize("name", MODELS)
def test_multiply_accumulates_are_exact(name, exporter):
    sites = compiled(exported(name, exporter)).plan.sites
    assert [site.macs for site in sites] == MACS[name]
    assert [site.activations for site in sites] == INPUTS[name]


@pytest.mark.parametrize("exporter", EXPORTED)
@pytest.mark.parametrize("name", MODELS)
def test_every_size_that_is_known_is_right(name, exporter):
    graph = standardize(exported(name, exporter))
    tensors = [
        tensor
        for node in graph.nodes
        for tensor in node.outputs
        if tensor.shape is not None and not tensor.is_empty() and tensor.dtype is not None
    ]
    said = {tensor.name: list(tensor.shape) for tensor in tensors}
    assert sum("*" in str(size) for sizes in said.values() for size in sizes) >= (
        name == "transformer_module"
    )
    graph.outputs = tensors
    proto = gs.export_onnx(graph, do_type_check=False)
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    runtime = session(proto, native=False)
    for batch in (1, 3):
        results = runtime.run(list(said), {"input": np.zeros((batch, 8), np.int64)})
        for (tensor, sizes), result in zip(said.items(), results, strict=True):
            read = [Size.read(size) for size in sizes]
            numbers = [size.factor * math.prod(batch for _ in size.names) for size in read]
            assert all(set(size.names) <= {"batch"} for size in read), tensor
            assert list(result.shape) == numbers, tensor


def plain_step(graph, *arrays):
    """The outputs of the training graph as it is: ONNX Runtime would fuse a Mul that no Expand follows."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1  # more add the rows of an embedding's gradient in any order
    runtime = ort.InferenceSession(
        graph.training.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = {**graph.state, **batch_of(graph, *arrays)}
    names = [output.name for output in runtime.get_outputs()]
    results = runtime.run(names, {value.name: values[value.name] for value in runtime.get_inputs()})
    return dict(zip(names, results, strict=True))


@pytest.mark.parametrize("exporter", EXPORTED)
def test_products_of_attention_are_not_expanded_and_train_as_before(exporter, monkeypatch):
    model, _, example = prepared("transformer_module", exporter)
    graphs = [compiled(model)]
    monkeypatch.setattr(standard, "computed_shapes", lambda model: None)
    graphs.append(compiled(model))
    found, before = (plain_step(graph, example.numpy(), targets("cross_entropy")) for graph in graphs)
    assert found.keys() == before.keys() >= {"loss", "head.weight.grad"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, before[name], name)
    ops = [collections.Counter(node.op_type for node in graph.training.graph.node) for graph in graphs]
    # Two operands of two products in two layers; one that stays is the gradient of the mean over positions.
    assert [count["Expand"] for count in ops] == [1, 9]


class Older(nn.Module):
    """PyTorch's own encoder layers, which turn batch and time; as long as a user may ask."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.1, activation="gelu")
        self.embedding, self.head = nn.Embedding(20, 32), nn.Linear(32, CLASSES)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


@pytest.mark.parametrize("exporter", EXPORTED)
def test_pytorchs_own_encoder(exporter, tmp_path):
    from torch_models import export

    path = export(Older(), torch.zeros(2, 16, dtype=torch.int64), tmp_path / "model.onnx", exporter)
    plan = compiled(onnx.load(path), "ibm2020").plan
    attention = 4 * 16 * 8 * 16
    layer = [16 * 32 * 96, attention, attention, 16 * 32 * 32, 16 * 32 * 64, 16 * 64 * 32]
    assert [site.macs for site in plan.sites] == [*layer, *layer, 32 * CLASSES]
    left = [16 * 32, 16 * 32, 4 * 16 * 16, 16 * 32, 16 * 32, 16 * 64]
    assert [site.activations for site in plan.sites] == [*left, *left, 32]
    assert plan.float_bytes == 4 * (2 * sum(left) + 32)
