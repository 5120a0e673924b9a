"""The training graph of a ResNet: what stands in it after all passes."""

import functools

import onnx
import onnx.checker
import pytest
from onnx import TensorProto

from fourbit_onnx.models import registry
from fourbit_onnx.passes.finish import _RUNTIME_OPERATORS
from fourbit_onnx.passes.pipeline import Options, build
from fourbit_onnx.recipes import table


@functools.cache
def resnet8():
    model = registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=16, seed=0)
    return build(model, Options(table.find("ibm2020-onephase")))


def nodes_of(model, op):
    return [node for node in model.graph.node if node.op_type == op and node.domain == "ai.fourbit"]


def makers(model):
    return {name: node for node in model.graph.node for name in node.output if name}


def sites_of_4_bit():
    return [site for site in resnet8().plan.sites if site.precision == "4-bit"]


def test_the_training_graph_has_every_step_explicitly():
    training, sites = resnet8().training, sites_of_4_bit()
    assert len(sites) == len(resnet8().plan.sites) - 2
    convolutions = len(sites)
    for op in (
        "QConv",
        "QConvInputGrad",
        "QConvWeightGrad",
        "PactGrad",
        "SawbScale",
        "QuantizeInt4",
        "GradientScale",
    ):
        assert len(nodes_of(training, op)) == convolutions, op
    phases = [
        node.attribute[0].i
        for node in nodes_of(training, "QuantizeLog4")
        if node.attribute[0].name == "phase"
    ]
    assert sorted(phases) == [0] * convolutions + [1] * convolutions
    assert {name.name for name in training.functions} == {
        node.op_type for node in training.graph.node if node.domain == "ai.fourbit"
    }


def test_equal_activations_are_quantised_once():
    """In a block with a projection, the first convolution and the projection read the same tensor."""
    training, sites = resnet8().training, sites_of_4_bit()
    tensors = [site.x for site in sites]
    shared = {name for name in tensors if tensors.count(name) > 1}
    assert len(shared) == 2
    quantised = [node.input[0] for node in nodes_of(training, "QuantizePact")]
    assert len(quantised) == len(set(quantised)) == len(set(tensors))
    assert len(resnet8().manifest.clips) == len(set(tensors))
    codes = [node.input[0] for node in nodes_of(training, "QConv")]
    assert len(codes) - len(set(codes)) == len(shared)


def test_input_gradients_read_even_codes_and_weight_gradients_odd_ones():
    training = resnet8().training
    made_by = makers(training)

    def phase(name):
        node = made_by[name]
        assert node.op_type == "QuantizeLog4"
        return next(a.i for a in node.attribute if a.name == "phase"), node.input[0], node.input[1]

    for even, odd in zip(
        nodes_of(training, "QConvInputGrad"), nodes_of(training, "QConvWeightGrad"), strict=True
    ):
        site = even.name.split("/input_grad")[0]
        weight_grad = next(
            n for n in nodes_of(training, "QConvWeightGrad") if n.name == f"{site}/weight_grad"
        )
        assert phase(even.input[0])[0] == 0
        assert phase(weight_grad.input[3])[0] == 1
        assert phase(even.input[0])[1:] == phase(weight_grad.input[3])[1:]  # the same dy, the same scale
        assert odd.input[3] in made_by


def test_all_codes_are_4_bit_in_the_saved_model():
    training = resnet8().training
    kinds = {value.name: value.type.tensor_type.elem_type for value in training.graph.value_info}
    unsigned = {"QuantizePact": TensorProto.UINT4, "QuantizeLog4": TensorProto.UINT4}
    found = 0
    for node in training.graph.node:
        if node.op_type.startswith("Quantize"):
            assert kinds[node.output[0]] == unsigned.get(node.op_type, TensorProto.INT4), node.name
            found += 1
    assert found == sum(name in (TensorProto.INT4, TensorProto.UINT4) for name in kinds.values()) > 20


def test_the_backward_pass_reads_codes_and_masks_only():
    """No float activation that a 4-bit site reads is read again: it can be freed after the forward pass.

    What the gradients of ReLU, BatchNormalization and addition read is theirs.
    """
    training = resnet8().training
    activations = {node.input[0] for node in nodes_of(training, "QuantizePact")}
    weights = {site.w for site in sites_of_4_bit()}
    backward = [node for node in nodes_of(training, "QConvInputGrad") + nodes_of(training, "QConvWeightGrad")]
    backward += nodes_of(training, "PactGrad")
    kinds = {value.name: value.type.tensor_type.elem_type for value in training.graph.value_info}
    four_bit = (TensorProto.INT4, TensorProto.UINT4)
    for node in backward:
        assert not activations & set(node.input), node.name
        assert not weights & set(node.input), node.name
    for node in nodes_of(training, "QConvWeightGrad"):
        assert kinds[node.input[0]] in four_bit
        assert kinds[node.input[3]] in four_bit
    for node in nodes_of(training, "QConvInputGrad"):
        assert kinds[node.input[0]] in four_bit
        assert kinds[node.input[2]] in four_bit
    for node in nodes_of(training, "PactGrad"):
        assert kinds[node.input[1]] in four_bit
        assert kinds[node.input[2]] == TensorProto.UINT8
    forward = {node.input[0] for node in nodes_of(training, "QConv")}
    assert {node.input[0] for node in nodes_of(training, "QConvWeightGrad")} <= forward


def test_no_float_convolution_is_left_but_the_first():
    ops = [node.op_type for node in resnet8().training.graph.node if node.domain != "ai.fourbit"]
    assert ops.count("Conv") == 1
    assert ops.count("ConvGrad") == 1


@pytest.mark.parametrize("name", ["training", "evaluation", "optimizer", "calibration"])
def test_the_checker_accepts_every_model(name):
    """With full shape inference; but for gradients that ONNX Runtime keeps in the standard domain."""
    model = onnx.ModelProto()
    model.CopyFrom(getattr(resnet8(), name))
    for node in model.graph.node:
        if not node.domain and node.op_type in _RUNTIME_OPERATORS:
            node.domain = "com.microsoft"
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)


def test_names_are_unique():
    for model in (resnet8().training, resnet8().evaluation, resnet8().calibration, resnet8().optimizer):
        names = [node.name for node in model.graph.node]
        assert len(names) == len(set(names)), model.graph.name
