"""What every reference model owes: valid, float32, reproducible, of documented size, equal to PyTorch."""

import hashlib
import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper, shape_inference

from fourbit_onnx.errors import GraphError
from fourbit_onnx.models.registry import MODELS, build

# Options, trained parameters. The counts by hand or from the literature:
CASES = {
    # 64·128 + 128 + 128·128 + 128 + 128·10 + 10
    "mlp": ({}, 26_122),
    # 0.27 M in table 6 of the paper with shortcuts of option A; + 32·16 + 2·32 + 64·32 + 2·64 for option B
    "resnet20": ({}, 269_722 + 2_752),
    # resnet8 and an identity block a stage: 2·(16²·9 + 2·16), the same of 32 and of 64
    "resnet14": ({}, 78_042 + 4_672 + 18_560 + 73_984),
    # 16·9 + 32; 4,672; 16·32·9 + 32²·9 + 128 + 16·32 + 64; 32·64·9 + 64²·9 + 256 + 32·64 + 128; 650
    "resnet8": ({"input_shape": (1, 8, 8)}, 176 + 4_672 + 14_528 + 57_728 + 650),
    # torchvision's resnet18
    "resnet18": ({"input_shape": (3, 64, 64), "classes": 1000}, 11_689_512),
    # 3·32·9, 32·32·9, 32·64·9, 64·64·9, 64·128·9, 128·128·9; 4·(32+64+128); 2048·128+128; 1290
    "vgg": ({}, 551_018),
    # torchvision's resnet50
    "resnet50": ({"input_shape": (3, 64, 64), "classes": 1000}, 25_557_032),
    # 25·(3·32 + 32·96), 9·(96·128 + 128² + 128·96); 2·(32+96+128+128+96); 1536·256+256; 256²+256; 2570
    "alexnet": ({}, 25 * 3_168 + 9 * 40_960 + 960 + 393_472 + 65_792 + 2_570),
    # 3·16·64 + 64; 64·64; 4·(4·(64² + 64) + 2·128 + 2·64·256 + 256 + 64); 128; 650
    "vit": ({}, 3_136 + 4_096 + 4 * 49_984 + 128 + 650),
    # torchvision's mobilenet_v2
    "mobilenetv2": ({"input_shape": (3, 64, 64), "classes": 1000, "full": True}, 3_504_872),
    # 64·32 + 16·32 + 2·(4·(32² + 32) + 2·64 + 2·32·128 + 128 + 32) + 64 + 330
    "transformer": ({}, 28_362),
    # 96·64; 4·128·(64 + 128) + 8·128; 128·96 + 96
    "lstm_lm": ({}, 6_144 + 99_328 + 12_384),
    # for each direction 4·64·(20 + 64) + 8·64, then 4·64·(128 + 64) + 8·64; 128·10 + 10
    "bilstm": ({}, 2 * 22_016 + 2 * 49_664 + 1_290),
    # (96 + 64)·64; 2·(4·(64² + 64) + 2·128 + 2·64·256 + 256 + 64); 128; 64·96 + 96
    "transformer_lm": ({}, 10_240 + 2 * 49_984 + 128 + 6_240),
    # 2·(64 + 16)·32; 2·12,704 for the encoder, 2·(12,704 + 4·(32² + 32) + 64) for the decoder; 2·64; 64·33
    "transformer_seq2seq": ({}, 5_120 + 2 * 12_704 + 2 * 16_992 + 128 + 2_112),
}


def test_every_model_is_here():
    assert set(CASES) == set(MODELS)


def _is_trained(tensor):
    return (
        tensor.data_type == TensorProto.FLOAT
        and tensor.dims
        and not any(word in tensor.name for word in ("running_", "mask"))
    )


@pytest.mark.parametrize("name", CASES)
class TestModel:
    def test_checker_and_shape_inference(self, name):
        model = build(name, **CASES[name][0])
        onnx.checker.check_model(model, full_check=True)
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        shapes = {value.name: value.type.tensor_type for value in inferred.graph.value_info}
        for node in model.graph.node:
            for output in node.output:
                if output != "logits":
                    dims = shapes[output].shape.dim
                    assert [dim.dim_param for dim in dims if not dim.dim_value] == ["batch"], output

    def test_versions(self, name):
        model = build(name)
        assert model.ir_version == 10
        assert [(o.domain, o.version) for o in model.opset_import] == [("", 21)]

    def test_two_builds_give_the_same_bytes(self, name):
        first, second = (build(name).SerializeToString() for _ in range(2))
        assert first == second
        assert first != build(name, seed=1).SerializeToString()

    def test_float32_and_dynamic_batch(self, name):
        model = build(name)
        kinds = {t.data_type for t in model.graph.initializer} - {TensorProto.INT64}
        assert kinds == {TensorProto.FLOAT}
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"

    def test_names_are_unique(self, name):
        names = [node.name for node in build(name).graph.node]
        assert all(names)
        assert len(set(names)) == len(names)

    def test_parameter_count(self, name):
        options, expected = CASES[name]
        tensors = build(name, **options).graph.initializer
        assert sum(int(np.prod(t.dims)) for t in tensors if _is_trained(t)) == expected

    def test_knows_nothing_of_four_bits(self, name):
        assert {node.domain for node in build(name).graph.node} == {""}

    def test_logits_start_moderate(self, name):
        """Initialisation neither dies nor explodes: the first loss is near log(classes)."""
        model = build(name)
        for node in model.graph.node:
            if node.op_type == "BatchNormalization":  # running statistics say nothing yet
                node.output.extend([f"{node.name}.mean", f"{node.name}.var"])
                node.attribute.append(onnx.helper.make_attribute("training_mode", 1))
        logits = _run(model, 32)
        assert np.isfinite(logits).all()
        assert 0.01 < logits.std() < 10


def _batch(value, count=4):
    rng = np.random.default_rng(5)
    shape = (count, *(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]))
    if value.type.tensor_type.elem_type == TensorProto.INT64:
        return rng.integers(0, 64, shape)
    return rng.standard_normal(shape).astype(np.float32)


def _run(model, count=4):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: _batch(value, count) for value in model.graph.input})[0]


def test_weights_are_the_same_on_every_machine_and_numpy():
    weights = {t.name: t.raw_data for t in build("resnet8").graph.initializer}
    digest = hashlib.sha256(weights["layer2.0.conv1.weight"]).hexdigest()
    assert digest == "907ad3f465bd95c28f039df551b89ee7eb430c3567cacd55679b896e012a049f"


def test_weights_fill_their_range():
    tensor = next(t for t in build("resnet8").graph.initializer if t.name == "layer3.0.conv2.weight")
    w = numpy_helper.to_array(tensor)
    bound = np.sqrt(6 / (64 * 9))
    # uniform on [-bound, bound): variance bound**2 / 3, its estimate from n numbers is off by
    # bound**2 * sqrt(4 / 45 / n); four of these for n = 36,864
    assert abs(w.var(dtype=np.float64) / bound**2 - 1 / 3) < 4 * np.sqrt(4 / 45 / w.size)
    assert 0.99 * bound < np.abs(w).max() <= bound


@pytest.mark.parametrize(("height", "width"), list(itertools.product([5, 8, 33], repeat=2)))
@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2"])
def test_any_size_of_image(name, height, width):
    assert _run(build(name, input_shape=(2, height, width), classes=3)).shape == (4, 3)


def test_width_scales_channels():
    shapes = {t.name: list(t.dims) for t in build("resnet8", width=4).graph.initializer}
    assert shapes["layer3.0.conv2.weight"] == [16, 16, 3, 3]


def test_refusals():
    with pytest.raises(GraphError, match=r"^no model 'alexnot'; there are: mlp, resnet8, "):
        build("alexnot")
    with pytest.raises(
        GraphError, match=r"^model 'mlp' has no option 'width'; there are: input_shape, classes, "
    ):
        build("mlp", width=3)
    with pytest.raises(GraphError, match=r"^no stem 'big' of a ResNet; there are: small, large$"):
        build("resnet8", stem="big")
    with pytest.raises(GraphError, match=r"takes 8 pixels; got 4x4$"):
        build("vgg", input_shape=(1, 4, 4))
    for name, width in {
        "transformer": 32,
        "transformer_lm": 64,
        "transformer_seq2seq": 32,
        "vit": 64,
    }.items():
        with pytest.raises(GraphError, match=rf"multiple of its heads; got {width} and 5$"):
            build(name, heads=5)
    with pytest.raises(GraphError, match=r"multiple of its patches; got 32x30 and 4$"):
        build("vit", input_shape=(3, 32, 30))
    with pytest.raises(GraphError, match=r"takes 8 pixels; got 8x7$"):
        build("alexnet", input_shape=(1, 8, 7))
