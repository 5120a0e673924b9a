"""Conversions whole: what no single pass can get wrong alone, and the folder."""

import errno

import numpy as np
import onnx
import pytest
from cli import listing
from graphs import model
from training_graph import batch_of, calibrated, compiled, gradients, step

from fourbit_onnx.artifacts import checkpoint, tensors
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.errors import ArtifactError, RecipeError
from fourbit_onnx.passes.convert import convert
from fourbit_onnx.passes.pipeline import Options
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Quantizer, Recipe

RNG = np.random.default_rng(0)


def weights(**shapes):
    return {name: (RNG.standard_normal(shape) / 4).astype(np.float32) for name, shape in shapes.items()}


ROWS = "(float[N,8] x) => (float[N,4] y)"
LAYERS = weights(w1=(8, 16), b1=(16,), w2=(16, 16), b2=(16,), w3=(16, 4), b3=(4,))
MLP = "[a] h = Gemm (x, w1, b1) r = Relu (h) [b] p = Gemm (r, w2, b2) q = Relu (p) [c] y = Gemm (q, w3, b3)"
X = RNG.standard_normal((6, 8)).astype(np.float32)
LABELS = RNG.integers(0, 4, 6)


def one_step(graph, *arrays):
    batch = batch_of(graph, *arrays)
    outputs = step(graph, calibrated(graph, batch), batch)
    assert all(np.isfinite(value).all() for value in outputs.values() if value.dtype == np.float32)
    return outputs, gradients(graph, outputs)


# A model, and what is special about it.
SPECIAL = {
    "dropout before a site": MLP.replace(
        "Relu (h) [b] p = Gemm (r", "Relu (h) d = Dropout (r) [b] p = Gemm (d"
    ),
    "two dropouts before a site": MLP.replace(
        "Relu (h) [b] p = Gemm (r", "Relu (h) e = Dropout (r) d = Dropout (e) [b] p = Gemm (d"
    ),
    "a tensor called loss": MLP.replace("q", "loss"),
    "a tensor called accuracy": MLP.replace("q", "accuracy"),
    "a square of a weight": MLP.replace("[b] p = Gemm (r, w2", "u = Mul (w2, w2) [b] p = Gemm (r, u"),
    "a weight turned": MLP.replace("[b] p = Gemm (r, w2", "u = Transpose (w2) [b] p = Gemm (r, u"),
    "a site that reads one tensor twice": MLP.replace(
        "[b] p = Gemm (r, w2, b2)",
        "s = Unsqueeze (r, one) t = Mul (s, w2) [b] g = MatMul (t, t)"
        " k = ReduceMean <keepdims = 0> (g, one) p = Add (k, b2)",
    ),
    "a cast to the same type": MLP.replace("Relu (h)", "Cast <to = 1> (h)"),
    "a site beside the loss": MLP + " [e] z = Gemm (p, w2) zz = ReduceMean (z)",
}


@pytest.mark.parametrize(
    "recipe", ["fp32", "fp16", "minmax", "ibm2020", "ibm2020-learned-scale", "int4-linear"]
)
@pytest.mark.parametrize("body", SPECIAL.values(), ids=SPECIAL)
def test_special_models(body, recipe):
    proto = model(ROWS, body, LAYERS | {"one": np.array([1], np.int64)})
    graph = compiled(proto, recipe)
    _, found = one_step(graph, X, LABELS)
    assert set(found) == set(graph.manifest.parameters)
    if "Dropout" not in body and "w2" in found:
        assert np.any(found["w2"])


def test_a_site_that_only_another_output_needs():
    """Its weight and clip are frozen; the evaluation graph computes it all the same."""
    body = MLP + " [e] u = Gemm (q, w4) v = Relu (u) [f] z = Gemm (v, w5)"
    proto = model(
        "(float[N,8] x) => (float[N,4] y, float[N,4] z)", body, LAYERS | weights(w4=(16, 16), w5=(16, 4))
    )
    graph = compiled(proto, "ibm2020")
    assert {"w4", "w5"} <= set(graph.manifest.frozen)
    one_step(graph, X, LABELS)
    assert {"y", "z"} <= {value.name for value in graph.evaluation.graph.output}
    inputs = {value.name for value in graph.evaluation.graph.input}
    assert set(graph.manifest.clips) <= inputs
    assert set(graph.manifest.clips) <= {*graph.manifest.parameters, *graph.manifest.frozen}


def test_a_recipe_of_a_user():
    linear = Quantizer("int4", "absmax")
    recipe = Recipe(
        "mine",
        activation=linear,
        weight=linear,
        dgrad=Quantizer("log4", "gradient", threshold=2.0),
        wgrad=Quantizer("log4", "learned", phase=1),
        keep_ends=False,
    )
    from fourbit_onnx.passes.pipeline import build

    graph = build(model(ROWS, MLP, LAYERS), Options(recipe))
    one_step(graph, X, LABELS)
    assert graph.manifest.recipe == "mine"
    ops = [node.op_type for node in graph.training.graph.node]
    assert (ops.count("GradientScale"), ops.count("LearnedGradientScale")) == (2, 3)
    assert graph.calibration is None


def test_recipes_of_single_sites():
    graph = compiled(model(ROWS, MLP, LAYERS), "ibm2020", settings=[("a", "minmax"), ("c", "fp16")])
    outputs, _ = one_step(graph, X, LABELS)
    assert [site.precision for site in graph.plan.sites] == ["4-bit", "4-bit", "fp16"]
    assert graph.manifest.skip == "gradients_finite"
    assert outputs["gradients_finite"]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_first_clips_that_make_no_sense(value):
    with pytest.raises(RecipeError, match=rf"^initial_clip is a number of at least 0, not {value}$"):
        Options(table.find("ibm2020"), initial_clip=value)


def test_the_caller_s_model_is_left_as_it_was():
    proto = model(ROWS, SPECIAL["a square of a weight"], LAYERS)
    before = proto.SerializeToString(deterministic=True)
    compiled(proto, "ibm2020")
    assert proto.SerializeToString(deterministic=True) == before


def test_the_same_conversion_gives_the_same_bytes():
    first, second = (compiled(model(ROWS, MLP, LAYERS), "ibm2020") for _ in range(2))
    for name in ("training", "evaluation", "optimizer", "calibration"):
        a, b = (getattr(graph, name).SerializeToString(deterministic=True) for graph in (first, second))
        assert a == b, name
    assert first.manifest == second.manifest
    assert list(first.state) == list(second.state)


# ---------------------------------------------------------------------------------------------- the folder


def folder_of(path, **options):
    convert(model(ROWS, MLP, LAYERS), path, Options(table.find("ibm2020")), **options)
    return path


def test_files(tmp_path):
    out = folder_of(tmp_path / "a" / "b" / "out")
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert names == [
        "calibration_model.onnx",
        "checkpoint/state.json",
        "checkpoint/state.safetensors",
        "eval_model.onnx",
        "manifest.json",
        "optimizer_model.onnx",
        "plan.json",
        "training_model.onnx",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    for name in names:
        if name.endswith(".onnx"):
            onnx.checker.check_model(onnx.load(out / name))


def test_no_calibration_without_clips(tmp_path):
    convert(model(ROWS, MLP, LAYERS), tmp_path / "out", Options(table.find("minmax")))
    assert not (tmp_path / "out" / files.CALIBRATION_MODEL).exists()


def test_an_empty_folder_may_be_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(
        ArtifactError,
        match=r"out exists; choose another folder, or overwrite it with --force \(overwrite=True\)$",
    ):
        folder_of(tmp_path / "out")
    folder_of(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / files.MANIFEST).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_checkpoint_that_cannot_be_written_leaves_nothing_new(tmp_path, monkeypatch, overwrite):
    out = tmp_path / "out"
    if overwrite:
        folder_of(out)
    before = listing(tmp_path)

    def full(*_):
        raise FULL

    monkeypatch.setattr(tensors, "write", full)
    with pytest.raises(ArtifactError) as refusal:
        folder_of(out, overwrite=overwrite)
    assert str(refusal.value) == (
        f"cannot write {out}: No space left on device; nothing was left behind: make room"
    )
    assert refusal.value.__cause__ is FULL
    assert listing(tmp_path) == before


def test_what_is_no_error_of_the_system_keeps_its_sentence(tmp_path, monkeypatch):
    def odd(*_):
        raise ArtifactError("the state has no name; choose one")

    monkeypatch.setattr(checkpoint, "write", odd)
    with pytest.raises(ArtifactError, match=r"^the state has no name; choose one$"):
        folder_of(tmp_path / "out")
    assert listing(tmp_path) == {}


def test_a_file_is_not_overwritten(tmp_path):
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(ArtifactError) as refusal:
        folder_of(path, overwrite=True)
    assert (
        str(refusal.value)
        == f"{path} exists and is not an artifact folder, so it is not overwritten; choose another folder"
    )
    assert path.read_text() == "mine"
