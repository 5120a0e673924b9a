"""Techniques: what is left of a recipe without one, in its name, its graph and its training."""

import dataclasses
import math

import numpy as np
import onnx
import pytest
from native import needs_library
from test_training_luq import compiled_with
from training_graph import batch_of, calibrated, step

from fourbit_onnx import Trainer, convert
from fourbit_onnx.data import digits
from fourbit_onnx.errors import RecipeError
from fourbit_onnx.formats import gradient_scale, log4
from fourbit_onnx.models import registry
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Quantizer, Recipe
from fourbit_onnx.recipes.techniques import TECHNIQUES, techniques

UNBIASED = log4.UNBIASED
EVEN, ODD, BOTH = (Quantizer("log4", "gradient", phase, UNBIASED, dither=True) for phase in (0, 1, 2))
SHARED = [dataclasses.replace(q, scale="shared") for q in (EVEN, ODD, BOTH)]
LUQ = Quantizer("log2", "underflow")
# recipe and technique: the fields that change
CHANGES = {
    ("ibm2020-onephase", "two-phase-rounding"): {"wgrad": EVEN},
    ("ibm2020", "two-phase-rounding"): {"dgrad": EVEN, "wgrad": EVEN},
    ("ibm2020", "mean-of-phases"): {"dgrad": EVEN, "wgrad": ODD},
    ("ibm2020-onephase", "layer-gradient-scale"): {"dgrad": SHARED[0], "wgrad": SHARED[1]},
    ("ibm2020", "layer-gradient-scale"): {"dgrad": SHARED[2], "wgrad": SHARED[2]},
    ("ibm2020-learned-scale", "layer-gradient-scale"): {"dgrad": SHARED[0], "wgrad": SHARED[1]},
    ("ibm2020", "scale-dither"): dict.fromkeys(
        ("dgrad", "wgrad"), Quantizer("log4", "gradient", 2, UNBIASED)
    ),
    ("ibm2020", "pact-training"): {"activation": Quantizer("uint4", "clip")},
    ("ibm2020-plus", "pact-training"): {"activation": Quantizer("uint4", "clip")},
    ("ibm2020-plus", "clip-rounding-gradient"): {"activation": Quantizer("uint4", "pact")},
    ("ibm2020", "sawb"): {"weight": Quantizer("int4", "absmax")},
    ("luq-smp2", "stochastic-rounding"): {"dgrad": LUQ, "wgrad": LUQ},
    ("uint4-hadamard", "hadamard"): {
        **dict.fromkeys(("activation", "weight"), Quantizer("int4", "block16")),
        **dict.fromkeys(("dgrad", "wgrad"), Quantizer("int4", "block16", rounding="stochastic")),
    },
    ("mxfp4", "stochastic-rounding"): dict.fromkeys(
        ("dgrad", "wgrad", "dgrad_weight", "wgrad_activation"), Quantizer("e2m1", "mxfp4")
    ),
}


@pytest.mark.parametrize(("name", "technique"), CHANGES, ids="~".join)
def test_what_changes(name, technique):
    recipe = table.find(name)
    found = recipe.without(technique)
    source = f"{recipe.source}; without {technique}"
    assert found == dataclasses.replace(
        recipe, name=f"{name}~{technique}", source=source, **CHANGES[name, technique]
    )
    assert table.find(f"{name}~{technique}") == found
    with pytest.raises(RecipeError, match=rf"has no {technique} to leave out; it has: "):
        found.without(technique)


def test_the_phase_that_stays_is_that_of_dgrad():
    turned = Recipe("turned", dgrad=ODD, wgrad=EVEN).without("two-phase-rounding")
    assert (turned.dgrad.phase, turned.wgrad.phase) == (1, 1)


def test_without_their_mean_each_product_has_one_phase():
    found, one = table.find("ibm2020~mean-of-phases"), table.find("ibm2020-onephase")
    assert found == dataclasses.replace(one, name=found.name, source=found.source)
    turned = Recipe("turned", dgrad=ODD, wgrad=BOTH).without("mean-of-phases")
    assert (turned.dgrad.phase, turned.wgrad.phase) == (1, 1)


def test_several():
    both = table.find("ibm2020~sawb~two-phase-rounding")
    assert (both.name, both.weight.scale, both.wgrad.phase) == (
        "ibm2020~sawb~two-phase-rounding", "absmax", 0,
    )  # fmt: skip


def test_which_recipe_has_what():
    own = ["two-phase-rounding", "layer-gradient-scale", "pact-training", "sawb", "scale-dither"]
    mean = [own[0], "mean-of-phases", *own[1:]]
    assert {name: techniques(recipe) for name, recipe in table.RECIPES.items()} == {
        "fp32": [],
        "fp16": [],
        "minmax": [*own[:2], "scale-dither"],
        "ibm2020": mean,
        "ibm2020-onephase": own,
        "ibm2020-static": own[:-1],
        "ibm2020-learned-scale": own,
        "ibm2020-plus": [*mean[:4], "clip-rounding-gradient", *mean[4:]],
        "ibm2020-notpr": own[1:],
        "int4-linear": own[2:-1],
        "nvfp4": ["hadamard", "stochastic-rounding"],
        "mxfp4": ["stochastic-rounding"],
        "uint4-hadamard": ["hadamard", "stochastic-rounding"],
        "luq": ["sawb", "stochastic-rounding"],
        "luq-smp2": ["sawb", "stochastic-rounding"],
    }


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "ibm2020~tpr": f"no technique 'tpr'; there are: {', '.join(TECHNIQUES)}",
        "ibm2020~": f"no technique ''; there are: {', '.join(TECHNIQUES)}",
        "luq~hadamard": "recipe 'luq' has no hadamard to leave out; it has: sawb, stochastic-rounding",
        "fp16~sawb": "recipe 'fp16' has no sawb to leave out; it has: none",
        "mine.tomlx": f"no recipe 'mine.tomlx'; there are: {', '.join(table.RECIPES)}; or a file.toml",
        "ibm~sawb": f"no recipe 'ibm'; there are: {', '.join(table.RECIPES)}; or a file.toml",
    }.items(),
)
def test_refusals(name, message):
    with pytest.raises(RecipeError) as refusal:
        table.find(name)
    assert str(refusal.value) == message


# ------------------------------------------------------------------------------------------ in graphs


def resnet8(seed=0):
    return registry.build("resnet8", input_shape=(1, 8, 8), classes=10, width=8, seed=seed)


def ops(model):
    return [node.op_type for node in model.graph.node if node.domain == "ai.fourbit"]


def phases(model):
    nodes = [node for node in model.graph.node if node.op_type == "QuantizeLog4"]
    return {attribute.i for node in nodes for attribute in node.attribute if attribute.name == "phase"}


def test_the_graphs_lack_the_technique():
    whole = compiled_with(resnet8(), table.find("ibm2020"))
    assert phases(whole.training) == {0, 1}
    assert "SawbScale" in ops(whole.training)

    one = compiled_with(resnet8(), table.find("ibm2020~two-phase-rounding"))
    assert phases(one.training) == {0}

    sawb = compiled_with(resnet8(), table.find("ibm2020~sawb"))
    assert "SawbScale" not in ops(sawb.training) + ops(sawb.evaluation)
    assert "AbsMaxScale" in ops(sawb.training)

    nearest = compiled_with(resnet8(), table.find("luq-smp2~stochastic-rounding"))
    assert not {"RandomUniform", "QuantizeLogStochastic"} & set(ops(nearest.training))
    assert "random_state" not in nearest.manifest.quantizer_state
    assert ops(nearest.training).count("QuantizeLog2") == sum(
        site.precision == "4-bit" for site in nearest.plan.sites
    )  # one for both gradients: nearest is nearest


def test_clips_that_are_not_trained_are_calibrated_constants():
    graphs = compiled_with(resnet8(), table.find("ibm2020~pact-training"))
    clips = list(graphs.manifest.clips)
    assert clips
    assert set(clips) <= set(graphs.manifest.frozen)
    assert not set(clips) & (set(graphs.manifest.parameters) | set(graphs.manifest.gradients))
    assert {"QuantizePact", "PactGrad"} <= set(ops(graphs.training))


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_library)], ids=["body", "native"])
def test_one_gradient_scale_for_the_model(native):
    """Its next state is that of one layer with the gradients of all; layers of zeros have no say."""
    graphs = compiled_with(resnet8(), table.find("ibm2020~layer-gradient-scale"))
    assert graphs.manifest.quantizer_state == {
        "gradient_top": "gradient_top.new",
        "random_state": "random_state.new",
    }
    sites = sum(site.precision == "4-bit" for site in graphs.plan.sites)
    assert ops(graphs.training).count("LearnedGradientScale") == sites + 1
    assert "GradientScale" not in ops(graphs.training)
    graphs.training.graph.output.append(
        onnx.helper.make_tensor_value_info("gradient_top.largest", 1, [sites])
    )
    rng = np.random.default_rng(0)
    batch = batch_of(graphs, rng.normal(0, 1, (7, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 7))
    state = calibrated(graphs, batch)
    assert state["gradient_top"] == 0
    zeros = 0
    for top in (0, 2.0**-60, 2.0**-3, 2.0**60):
        got = step(graphs, state | {"gradient_top": np.array(top, np.float32)}, batch, native=native)
        largest = got["gradient_top.largest"]
        assert got["gradient_top.new"] == gradient_scale.learned(largest, top, log4.UNBIASED)[1] != top
        zeros += (largest == 0).sum()
    # With the last state all codes are 0, so only the two convolutions of the last sum get a gradient.
    assert zeros == sites - 2
    assert got["gradient_top.new"] == 2.0**59


def test_the_evaluation_graph_is_that_of_the_whole_recipe():
    whole, changed = (
        compiled_with(resnet8(), table.find(name)) for name in ("ibm2020", "ibm2020~layer-gradient-scale")
    )
    assert whole.evaluation.SerializeToString() == changed.evaluation.SerializeToString()


TRAINED = [
    *(f"ibm2020~{technique}" for technique in techniques(table.find("ibm2020"))),
    "luq~stochastic-rounding", "luq~sawb", "luq-smp2",
]  # fmt: skip


@pytest.mark.parametrize("recipe", TRAINED)
def test_training(tmp_path, recipe):
    """Two epochs of digits: the loss falls to less than half of its first value."""
    data = digits.load()
    name, *without = recipe.split("~")
    convert(resnet8(), tmp_path / "out", recipe=name, without=without)
    trainer = Trainer(tmp_path / "out", threads=1)
    first = trainer.state.tensors
    history = trainer.fit(
        data.train, epochs=2, batch_size=64, learning_rate=0.05, seed=0, progress=False
    )  # fmt: skip
    assert history.epochs[-1]["loss"] < 0.5 * math.log(10)
    assert trainer.manifest.recipe == recipe
    if recipe.endswith("pact-training"):
        for clip in trainer.manifest.clips:
            assert trainer.state.tensors[clip] > 0 == first[clip]
