"""Sensitivity, against conversions that this file makes and runs itself."""

import graphs
import numpy as np
import onnx
import pytest
from training_graph import batch_of, calibrated, compiled, gradients, run, step

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.harness.sensitivity import sensitivity
from fourbit_onnx.models import registry

RNG = np.random.default_rng(5)
NAMES = ["first", "odd[0]*?", "middle", "last"]


def mlp():
    """Four products whose names are patterns themselves, if they are not escaped."""
    model = registry.build("mlp", input_shape=(6,), classes=3, hidden=(8, 7, 5), seed=1)
    for node, name in zip([n for n in model.graph.node if n.op_type == "Gemm"], NAMES, strict=True):
        node.name = name
    return model


def given(model, recipe="ibm2020"):
    """State with calibrated clips, the gradient's batch, evaluation batches of unequal sizes."""
    graph = compiled(model, recipe)
    batch = batch_of(graph, RNG.normal(size=(9, 6)).astype(np.float32), RNG.integers(0, 3, 9))
    evaluation = [{name: array[:size] for name, array in batch.items()} for size in (9, 2)]
    state = calibrated(graph, batch, native=False)
    state = {  # as if trained
        name: array + RNG.normal(0, 0.05, array.shape).astype(np.float32) if array.ndim == 2 else array
        for name, array in state.items()
    }
    return state, batch, evaluation


def independent(model, state, batch, evaluation, reference=None, recipe="fp32", **options):
    """Loss, and whole gradient as one vector in order of ``reference``."""
    graph = compiled(model, recipe, **options)
    own = {name: np.asarray(state.get(name, first)) for name, first in graph.state.items()}
    for clip in graph.manifest.clips.keys() - state.keys():
        own[clip] = np.asarray(run(graph.calibration, {**own, **batch})[graph.manifest.clips[clip]])
    losses = [run(graph.evaluation, {**own, **part})[graph.manifest.loss_output] for part in evaluation]
    found = gradients(graph, step(graph, own, batch))
    names = sorted(name for name in found if name not in graph.manifest.clips)
    vector = np.concatenate([found[name].ravel() for name in names]).astype(np.float64)
    return (9 * float(losses[0]) + 2 * float(losses[1])) / 11, vector


def figures(one, other):
    """In float64: losses below 2, rounded three times; norms of fewer than 2**8 terms, ratios below 2."""
    return {
        "loss_change": pytest.approx(one[0] - other[0], abs=2.0**-50),
        "gradient_error": pytest.approx(
            np.linalg.norm(one[1] - other[1]) / np.linalg.norm(other[1]), abs=2.0**-44
        ),
    }


def test_against_conversions_of_its_own():
    model = mlp()
    state, batch, evaluation = given(model)
    calls = []
    found = sensitivity(
        model, "ibm2020", state, batch, evaluation, native=False, threads=1,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    inputs = state, batch, evaluation
    exact = independent(model, *inputs)
    assert found["loss"] == pytest.approx(exact[0], abs=2.0**-50)
    assert found["all_four_bit"] == figures(independent(model, *inputs, recipe="ibm2020"), exact)
    assert [row["site"] for row in found["sites"]] == NAMES
    assert [row["four_bit"] for row in found["sites"]] == [False, True, True, False]
    patterns = ["first", "odd[[]0[]][*][?]", "middle", "last"]
    for row, pattern in zip(found["sites"], patterns, strict=True):
        alone = independent(model, *inputs, settings=[(pattern, "ibm2020")])
        assert row["only_four_bit"] == figures(alone, exact)
        if row["four_bit"]:
            without = independent(model, *inputs, recipe="ibm2020", keep=[pattern])
            assert row["only_high"] == figures(without, exact)
            assert row["only_four_bit"]["gradient_error"] > 0
        else:
            assert row["only_high"] is None
    assert calls == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert found["left_out"] == 0


def test_the_heaviest_places():
    model = mlp()
    state, batch, evaluation = given(model)
    found = sensitivity(model, "ibm2020", state, batch, evaluation, native=False, threads=1, most=2)
    assert [row["site"] for row in found["sites"]] == ["first", "odd[0]*?"]  # 48 and 56 of 48, 56, 35, 15
    assert found["left_out"] == 2


def test_a_file(tmp_path):
    model = mlp()
    state, batch, evaluation = given(model, "minmax")
    onnx.save(model, tmp_path / "m.onnx")
    options = {"native": False, "threads": 1, "most": 1}
    found = sensitivity(tmp_path / "m.onnx", "minmax", state, batch, evaluation, **options)
    assert found == sensitivity(model, "minmax", state, batch, evaluation, **options)


def test_a_recipe_without_four_bits():
    model = mlp()
    state, batch, evaluation = given(model, "fp16")
    with pytest.raises(RecipeError, match=r"has no site of this model in 4 bits; choose another recipe"):
        sensitivity(model, "fp16", state, batch, evaluation, threads=1)


def test_a_place_that_can_have_no_product_in_4_bits_is_not_tried():
    """A grouped convolution has none with scales a block."""
    shapes = {"first": (4, 2, 1, 1), "grouped": (4, 2, 1, 1), "middle": (4, 4, 1, 1), "last": (4, 3)}
    body = """
        [a] h = Conv (image, first) [b] i = Conv <group = 2> (h, grouped) [c] j = Conv (i, middle)
        p = GlobalAveragePool (j) f = Flatten (p) [d] logits = MatMul (f, last)
    """
    values = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = graphs.model("(float[N,2,3,3] image) => (float[N,3] logits)", body, values)
    graph = compiled(model, "nvfp4")
    batch = batch_of(graph, RNG.normal(size=(4, 2, 3, 3)).astype(np.float32), RNG.integers(0, 3, 4))
    found = sensitivity(model, "nvfp4", calibrated(graph, batch), batch, [batch], native=False, threads=1)
    assert [(row["site"], row["four_bit"]) for row in found["sites"]] == [
        ("a", False),
        ("c", True),
        ("d", False),
    ]
