"""The recipe ``fp16`` rounds every operand and result to binary16, in the graph that ONNX Runtime runs.

Its optimisers move and remove casts: a Relu moved into float16 runs in float32 on the CPU, and takes the
rounding of the next convolution's input away with it. So the graph is taken from ONNX Runtime after all
optimisation, and run as it is, with the operands shown.
"""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from training_graph import batch_of, compiled, gradients, step

from fourbit_onnx.api import convert
from fourbit_onnx.data import digits
from fourbit_onnx.models import registry
from fourbit_onnx.runtime.session import session_options
from fourbit_onnx.runtime.trainer import Trainer

PRODUCTS = ("Conv", "FusedConv", "ConvGrad", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "TransposeMatMul")
# Products in the training graph. resnet8: nine convolutions, whose gradient is one node, and a Gemm, which
# has two. transformer: in both layers q, k, v, scores, mix, out, fc1, fc2; and the head.
EXPECTED = {"resnet8": 9 * 2 + 3, "transformer": (2 * 8 + 1) * 3}


def batch_for(name, graph):
    if name == "transformer":
        rng = np.random.default_rng(0)
        return batch_of(graph, rng.integers(0, 64, (8, 16)), rng.integers(0, 10, 8))
    train = digits.load().train
    return batch_of(graph, train["image"][:16], train["labels"][:16])


def model(name):
    options = {"input_shape": (1, 8, 8), "width": 8} if name == "resnet8" else {}
    return registry.build(name, **options)


def optimised(proto, path):
    """The graph as the trainer's sessions make it."""
    options = session_options(1)
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def run_as_it_is(proto, values):
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    feeds = {i.name: values[i.name] for i in session.get_inputs()}
    return dict(zip(names, session.run(None, feeds), strict=True))


def is_binary16(x):
    with np.errstate(over="ignore"):
        return np.array_equal(x, x.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("name", EXPECTED)
def test_every_operand_of_every_product(name, tmp_path):
    graph = compiled(model(name), "fp16")
    values = {**graph.state, **batch_for(name, graph)}
    values["loss_scale"] = np.array(1024, np.float32)
    plain = step(graph, values, {})
    assert plain[graph.manifest.skip]  # finite: otherwise the test would compare infinities

    real = optimised(graph.training, tmp_path / "optimised.onnx")
    products = [node for node in real.graph.node if node.op_type in PRODUCTS]
    assert len(products) == EXPECTED[name]
    operands, results = [], []
    for node in products:
        operands += [tensor for tensor in node.input if tensor]
        results += [tensor for tensor in node.output if tensor]
    outputs = {output.name for output in real.graph.output}
    for tensor in results:  # summed in float32, and rounded before anything else sees it
        readers = [node for node in real.graph.node if tensor in node.input]
        assert readers
        assert tensor not in outputs
        for reader in readers:
            target = [attribute.i for attribute in reader.attribute if attribute.name == "to"]
            assert (reader.op_type, target) == ("Cast", [onnx.TensorProto.FLOAT16]), (tensor, reader.name)
    for tensor in dict.fromkeys(operands + results):
        if tensor not in outputs:
            real.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
    shown = run_as_it_is(real, values)
    # sums that are not rounded yet; a vector of a few numbers may fit by accident
    assert not any(is_binary16(shown[tensor]) for tensor in results if shown[tensor].size > 100)
    for tensor in operands:
        assert shown[tensor].dtype == np.float32
        assert is_binary16(shown[tensor]), tensor
    for output in plain:  # showing them has changed nothing
        np.testing.assert_array_equal(plain[output], shown[output], err_msg=output)


@pytest.mark.parametrize("name", EXPECTED)
def test_gradients_are_as_far_from_float32_as_the_rounding_of_weights_explains(name):
    """Binary16 moves a number by up to 2**-11 of itself. Weights moved at random by up to 2**-12 in float32
    move the gradients (the median over tensors) as far, give or take 4: what is rounded besides, in a few
    layers, adds up to no more. (For the ResNet that is 5 %: where a ReLU flips, the gradient jumps.)
    """
    graph, half = (compiled(model(name), recipe) for recipe in ("fp32", "fp16"))
    batch = batch_for(name, graph)
    rng = np.random.default_rng(0)
    moved = dict(graph.state)
    for parameter in graph.manifest.parameters:
        w = moved[parameter]
        moved[parameter] = (w * (1 + rng.uniform(-(2.0**-12), 2.0**-12, w.shape))).astype(np.float32)
    exact = gradients(graph, step(graph, graph.state, batch))

    def distance(other):
        return np.median([np.linalg.norm(exact[p] - other[p]) / np.linalg.norm(exact[p]) for p in exact])

    ratio = distance(gradients(half, step(half, half.state, batch))) / distance(
        gradients(graph, step(graph, moved, batch))
    )
    assert 1 / 4 < ratio < 4


def test_overflow_skips_the_step_and_halves_the_scale(tmp_path):
    """With a loss scale that is too large, nothing changes but the scale, until gradients are finite."""
    convert(model("resnet8"), tmp_path / "out", recipe="fp16")
    trainer = Trainer(tmp_path / "out", threads=1)
    state = trainer.state
    state.tensors["loss_scale"] = np.array(2.0**30, np.float32)
    trainer.state = state
    train = digits.load().train
    batch = (train["image"][:16], train["labels"][:16])
    skipped = 0
    while trainer.step(batch, learning_rate=0.1)["skipped"]:
        skipped += 1
        found = trainer.state.tensors
        assert found["loss_scale"] == 2.0 ** (30 - skipped)
        for name, tensor in state.tensors.items():
            if name not in ("loss_scale", "good_steps"):
                np.testing.assert_array_equal(found[name], tensor, err_msg=name)
    assert 5 < skipped < 30
    found = trainer.state
    assert (found.tensors["good_steps"], found.progress.updates) == (1, 1)
    assert any(not np.array_equal(found.tensors[p], state.tensors[p]) for p in trainer.manifest.parameters)
