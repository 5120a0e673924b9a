"""The exports that later tests stand on: they are what they claim to be."""

import collections

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from torch_models import BATCH, EXPORTERS, MODELS, exported, make, torch

# Each dynamo export takes one to two seconds.
ALL = [n if n in ("mlp", "resnet") else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]


def _run(model, example):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["output"], {"input": example.numpy()})[0]


def _ops(model):
    return collections.Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ALL)
def test_export_computes_what_pytorch_computes(name, exporter):
    model = exported(name, exporter, training=False)
    onnx.checker.check_model(model, full_check=True)
    module, example = make(name)
    with torch.no_grad():
        expected = module.eval()(example).numpy()
    # Two float32 evaluations in different order; sums here have at most 512 terms of mixed sign and the
    # logits are of size 1, so rounding is about sqrt(512) * 6e-8; a wrong layer gives 1e-2 or more.
    np.testing.assert_allclose(_run(model, example), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", ALL)
def test_batch_is_dynamic(name, exporter):
    model = exported(name, exporter)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    _, example = make(name)
    for count in (1, BATCH - 1):
        assert _run(model, example[:count]).shape == (count, 10)


def test_torchscript_keeps_batchnorm_in_training_form():
    nodes = [n for n in exported("resnet", "torchscript").graph.node if n.op_type == "BatchNormalization"]
    assert [len(node.output) for node in nodes] == [3] * 6


def test_dynamo_folds_batchnorm_unless_it_may_not_optimize():
    assert _ops(exported("resnet", "dynamo"))["BatchNormalization"] == 0
    nodes = [n for n in exported("resnet", "dynamo_raw").graph.node if n.op_type == "BatchNormalization"]
    assert [len(node.output) for node in nodes] == [1] * 6


@pytest.mark.slow
def test_dynamo_merges_equal_parameters_of_a_fresh_model():
    def scales(fresh):
        nodes = exported("transformer", "dynamo", fresh=fresh).graph.node
        return {node.input[1] for node in nodes if node.op_type == "LayerNormalization"}

    assert len(scales(fresh=True)) == 1
    assert len(scales(fresh=False)) == 5


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo_raw"])
@pytest.mark.parametrize("name", ALL)
def test_every_parameter_keeps_its_name_and_value(name, exporter):
    module, _ = make(name)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in exported(name, exporter).graph.initializer}
    for key, value in module.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(held[key], value.numpy())


def test_same_export_twice_is_a_fresh_copy():
    first = exported("mlp")
    first.graph.ClearField("node")
    assert len(exported("mlp").graph.node) == 5
