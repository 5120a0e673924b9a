"""Exported models: standard operators only, 4-bit weights, the bits of the evaluation graph."""

import shutil

import graphs
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from fourbit_onnx import Recipe, Trainer, convert, export
from fourbit_onnx.artifacts import checkpoint, manifest
from fourbit_onnx.artifacts.state import State
from fourbit_onnx.data import digits
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.models import registry
from fourbit_onnx.recipes.recipe import Quantizer
from fourbit_onnx.runtime.unread import remove_unread

INT4 = onnx.TensorProto.INT4


def build(name):
    if name == "resnet8":
        data = digits.load()
        model = registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=8, seed=0)
        return model, {key: value[:64] for key, value in data.train.items()}
    rng = np.random.default_rng(0)
    if name == "convolutions":
        image = rng.standard_normal((16, 2, 7, 5)).astype(np.float32)
        return convolutions(), {"image": image, "labels": rng.integers(0, 3, 16)}
    model = registry.build("transformer", seed=0)
    shape = [dim.dim_value or 16 for dim in model.graph.input[0].type.tensor_type.shape.dim]
    classes = model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    return model, {
        model.graph.input[0].name: rng.integers(0, 8, shape),
        "labels": rng.integers(0, classes, shape[0]),
    }


def convolutions():
    """Two of signed activations between the ends, with all that a convolution may have."""
    draw = np.random.default_rng(0).standard_normal
    shapes = {"first": (4, 2, 3, 3), "grouped": (6, 2, 3, 2), "next": (4, 6, 2, 3), "last": (4, 3), "b": (4,)}
    body = """
        a = Conv <pads = [1, 1, 1, 1]> (image, first) s = Sigmoid (a) x = Mul (a, s)
        c = Conv <pads = [2, 0, 1, 1], dilations = [2, 1], group = 2> (x, grouped) t = Tanh (c)
        d = Conv <pads = [0, 1, 1, 0], strides = [1, 2]> (t, next, b) e = Relu (d)
        g = GlobalAveragePool (e) f = Flatten (g) logits = MatMul (f, last)
    """
    values = {name: draw(shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    return graphs.model("(float[N,2,7,5] image) => (float[N,3] logits)", body, values)


def plain(model, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL, **feeds):
    """What a user's onnxruntime gives: default options, no library."""
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(
        None, feeds
    )


def evaluated(folder, compiled, feeds):
    """The model's output in eval_model.onnx, without optimisation, on the function bodies."""
    options = ort.SessionOptions()
    options.enable_mem_reuse = False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        str(folder / "eval_model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    state = Trainer(folder).state.tensors
    inputs = {node.name: feeds.get(node.name, state.get(node.name)) for node in session.get_inputs()}
    return session.run(list(compiled.manifest.outputs), inputs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    cache = {}

    def get(name, recipe):
        if (name, recipe) not in cache:
            folder = tmp_path_factory.mktemp("export") / "out"
            model, data = build(name)
            compiled = convert(model, folder, recipe=recipe)
            trainer = Trainer(folder)
            for _ in range(3):
                trainer.step(data, learning_rate=0.02)
            trainer.save()
            cache[name, recipe] = folder, compiled, data
        return cache[name, recipe]

    return get


@pytest.mark.parametrize("weights", ["int4", "int8"])
@pytest.mark.parametrize("recipe", ["ibm2020", "ibm2020-plus", "int4-linear", "minmax", "fp16", "fp32"])
@pytest.mark.parametrize("name", ["resnet8", "transformer", "convolutions"])
def test_same_bits_as_the_evaluation_graph(trained, tmp_path, name, recipe, weights):
    folder, compiled, data = trained(name, recipe)
    model = export(folder, tmp_path / "model.onnx", weights=weights)
    feeds = {key: value for key, value in data.items() if key in compiled.manifest.inputs}
    off = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for got, expected in zip(plain(model, off, **feeds), evaluated(folder, compiled, data), strict=True):
        np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_same_bits_where_statistics_clip_an_activation(tmp_path):
    """SAWB saturates on both sides; the code -8 is of INT4, but not of the quantiser."""
    draw = np.random.default_rng(0).standard_normal
    values = {name: draw((4, 4)).astype(np.float32) for name in ("first", "middle", "last")}
    body = "a = MatMul (x, first) b = MatMul (a, middle) y = MatMul (b, last)"
    model = graphs.model("(float[N,4] x) => (float[N,4] y)", body, values)
    recipe = Recipe("own", activation=Quantizer("int4", "sawb"))
    compiled = convert(model, tmp_path / "out", recipe=recipe, loss="mse")
    feeds = {"x": draw((200, 4)).astype(np.float32)}  # of normal numbers, one in a hundred
    found = export(tmp_path / "out", tmp_path / "model.onnx")
    (clip,) = (node.output[0] for node in found.graph.node if node.op_type == "Clip")
    found.graph.output.add().name = clip
    got, codes = plain(found, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, **feeds)
    (expected,) = evaluated(tmp_path / "out", compiled, feeds | {"labels": np.zeros((200, 4), np.float32)})
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))
    assert (codes.min(), codes.max()) == (-7, 7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "weights"),
    [("nvfp4", "int4"), ("nvfp4", "float"), ("mxfp4", "int8"), ("uint4-hadamard", "int4")],
)
def test_same_bits_with_scales_a_block(trained, tmp_path, recipe, weights):
    """The definitions themselves are in the file, on codes that are floats."""
    folder, compiled, data = trained("transformer", recipe)
    model = export(folder, tmp_path / "model.onnx", weights=weights)
    assert {node.domain for node in model.graph.node} == {""}
    feeds = {key: value for key, value in data.items() if key in compiled.manifest.inputs}
    (expected,) = evaluated(folder, compiled, data)
    (got,) = plain(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL, **feeds)
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))
    assert np.isfinite(plain(model, **feeds)[0]).all()  # optimised, too, it loads and runs
    four_bit = onnx.TensorProto.INT4 if recipe == "uint4-hadamard" else onnx.TensorProto.UINT4
    kind = {"int4": four_bit, "int8": onnx.TensorProto.INT8, "float": onnx.TensorProto.FLOAT}[weights]
    codes = [tensor for tensor in model.graph.initializer if tensor.name.endswith("fwd.w.codes")]
    assert {tensor.data_type for tensor in codes} == {kind}


@pytest.mark.parametrize("weights", ["int4", "float"])
@pytest.mark.parametrize("recipe", ["ibm2020", "minmax", "nvfp4", "mxfp4"])
def test_nothing_is_stored_or_computed_in_vain(tmp_path, capfd, recipe, weights):
    """ONNX Runtime writes a warning for each such constant, 46 of them for a small Transformer in nvfp4."""
    data = digits.load().train
    convert(registry.build("mlp", input_shape=(1, 8, 8), classes=10), tmp_path / "out", recipe=recipe)
    trainer = Trainer(tmp_path / "out")
    trainer.step({key: value[:64] for key, value in data.items()}, learning_rate=0.02)
    trainer.save()
    capfd.readouterr()
    plain(export(tmp_path / "out", tmp_path / "model.onnx", weights=weights), image=data["image"][:4])
    assert capfd.readouterr().err == ""


def test_no_weight_is_stored_for_its_shape(tmp_path):
    """PyTorch's newer exporter gives a convolution without bias zeros, as many as its weight has rows."""
    draw = np.random.default_rng(0).standard_normal
    shapes = {"first": (4, 1, 2, 2), "middle": (4, 4, 2, 2), "last": (16, 3)}
    values = {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
    body = """
        a = Conv (image, first) r = Relu (a)
        rows = Shape <start = 0, end = 1> (middle) b = Expand (zero, rows)
        c = Conv (r, middle, b) d = Relu (c) f = Flatten (d) y = MatMul (f, last)
    """
    signature = "(float[N,1,4,4] image) => (float[N,3] y)"
    convert(graphs.model(signature, body, values | {"zero": np.zeros(1, np.float32)}), tmp_path / "out")
    trainer = Trainer(tmp_path / "out")
    image = draw((8, 1, 4, 4)).astype(np.float32)
    trainer.step({"image": image, "labels": np.arange(8) % 3}, learning_rate=0.1)
    trainer.save()
    stored = export(tmp_path / "out", tmp_path / "model.onnx").graph.initializer
    floats = {tuple(tensor.dims) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT}
    assert {shapes["first"], shapes["last"]} <= floats
    assert shapes["middle"] not in floats


def test_what_nothing_reads_goes_from_branches_too():
    graph = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[2] x, bool c) => (float[2] y)
        <float[2] a = {1, 2}, float[2] b = {1, 2}, float[2] lost = {1, 2}> {
            dead, half = Split <num_outputs = 2> (a)
            gone = Neg (dead)
            kept = Neg (x)
            y = If (c) <
                then_branch = t () => (float[2] p) { q = Constant <value = float {1}> ()  p = Add (kept, b) },
                else_branch = e () => (float[2] r) { r = Identity (x) }
            >
        }""").graph
    read = remove_unread(graph)
    assert [node.op_type for node in graph.node] == ["Neg", "If"]
    assert [tensor.name for tensor in graph.initializer] == ["b"]
    (branch,) = (entry.g for entry in graph.node[1].attribute if entry.name == "then_branch")
    assert [node.op_type for node in branch.node] == ["Add"]
    assert {"x", "c", "b", "kept"} <= read


def test_predictions_at_default_options(trained, tmp_path):
    """Optimised, the float parts may round differently; the classes are those of the evaluation graph."""
    folder, compiled, _ = trained("resnet8", "ibm2020")
    test = digits.load().test
    got = plain(export(folder, tmp_path / "model.onnx"), image=test["image"])[0]
    expected = evaluated(folder, compiled, test)[0]
    assert (got.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize(("weights", "kind"), [("int4", INT4), ("int8", onnx.TensorProto.INT8), ("float", 1)])
def test_what_the_file_holds(trained, tmp_path, weights, kind):
    folder, compiled, _ = trained("resnet8", "ibm2020")
    export(folder, tmp_path / "model.onnx", weights=weights)
    model = onnx.load(tmp_path / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [entry.domain for entry in model.opset_import] == [""]
    assert not model.functions
    assert [tensor.name for tensor in model.graph.input] == compiled.manifest.inputs
    codes = [tensor for tensor in model.graph.initializer if tensor.name.endswith(".w.codes")]
    assert len(codes) == sum(site.precision == "4-bit" for site in compiled.plan.sites)
    assert {tensor.data_type for tensor in codes} == {kind}
    read = {node.op_type for node in model.graph.node for name in node.input if name.endswith(".w.codes")}
    assert read == ({"Identity"} if weights == "float" else {"DequantizeLinear"})


def test_refusals(trained, tmp_path):
    folder, _, _ = trained("resnet8", "ibm2020")
    with pytest.raises(ArtifactError, match=r"no weight type 'int3'; there are: int4, int8, float"):
        export(folder, tmp_path / "a.onnx", weights="int3")
    with pytest.raises(ArtifactError, match=r"is not an artifact folder"):
        export(tmp_path, tmp_path / "a.onnx")
    model, _ = build("resnet8")
    convert(model, tmp_path / "fresh", recipe="ibm2020")
    with pytest.raises(ArtifactError, match=r"has no value yet; train the model first"):
        export(tmp_path / "fresh", tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"nothing was left behind"):
        export(folder, tmp_path / "file" / "a.onnx")


def test_damaged_folders(trained, tmp_path):
    """A valid file that is no valid graph; a checkpoint of another model; a weight that is not a number."""
    folder, _, _ = trained("resnet8", "ibm2020")
    state = checkpoint.read(folder)
    floats = {key: tensor for key, tensor in state.tensors.items() if tensor.dtype == np.float32}
    name = next(key for key, tensor in floats.items() if tensor.ndim == 4)

    def refused(message, tensors=None, twice=0):
        place = tmp_path / message.split()[0]
        shutil.copytree(folder, place)
        if tensors:
            checkpoint.write(place, State(tensors, state.progress))
        model = onnx.load(place / "eval_model.onnx")
        model.graph.node.extend(model.graph.node[:twice])
        onnx.save(model, place / "eval_model.onnx")
        manifest.write(place, manifest.read(folder))
        with pytest.raises(ArtifactError, match=message):
            export(place, tmp_path / "model.onnx")
        assert not (tmp_path / "model.onnx").exists()

    refused("loaded .*; make the folder again with fourbit convert", twice=1)
    less = {key: tensor for key, tensor in state.tensors.items() if key != name}
    refused(f"no '{name}'; restore the checkpoint", less)
    refused("graph wants float32", {**state.tensors, name: state.tensors[name][:1]})
    lost = {key: tensor * np.float32(np.nan if tensor.ndim == 4 else 1) for key, tensor in floats.items()}
    refused("make no model for inference", {**state.tensors, **lost})
