"""Recipes: which combinations there are, and how a plan writes and reads them."""

import dataclasses
import itertools
import math

import pytest

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.formats import log4
from fourbit_onnx.formats.table import FORMATS as ROWS
from fourbit_onnx.passes.operands import OperandBuilder
from fourbit_onnx.recipes import recipe as module
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import ARITHMETICS, FORMATS, SCALES, Quantizer, Recipe

EVEN, ODD, BOTH = (Quantizer("log4", "gradient", phase, log4.UNBIASED, dither=True) for phase in (0, 1, 2))
LINEAR, FULL = Quantizer("int4", "absmax"), Quantizer("int4_full", "minmax")
PACT, SAWB = Quantizer("uint4", "pact"), Quantizer("int4", "sawb")
CLIP, DRAWN_LOG2 = Quantizer("uint4", "clip"), Quantizer("log2", "underflow", rounding="stochastic")

# NUMERICS, section 6: recipe, fwd.x, fwd.w, dgrad.dy, wgrad.dy. What it calls ibm2020 is ibm2020-onephase
# (docs/decisions.md).
ROWS_OF_THE_PAGE = {
    "minmax": (FULL, FULL, EVEN, ODD),
    "ibm2020-onephase": (PACT, SAWB, EVEN, ODD),
    "ibm2020": (PACT, SAWB, BOTH, BOTH),
    "ibm2020-plus": (Quantizer("uint4", "pact+"), SAWB, BOTH, BOTH),
    "ibm2020-notpr": (PACT, SAWB, EVEN, EVEN),
    "int4-linear": (PACT, SAWB, LINEAR, LINEAR),
    "luq": (CLIP, SAWB, DRAWN_LOG2, DRAWN_LOG2),
    "luq-smp2": (CLIP, SAWB, DRAWN_LOG2, dataclasses.replace(DRAWN_LOG2, samples=2)),
}


@pytest.mark.parametrize("name", ROWS_OF_THE_PAGE)
def test_the_table_is_the_page(name):
    recipe = table.find(name)
    assert (recipe.activation, recipe.weight, recipe.dgrad, recipe.wgrad) == ROWS_OF_THE_PAGE[name]
    assert (recipe.arithmetic, recipe.keep_ends) == ("4-bit", True)


def test_the_references_and_the_default():
    assert {name: table.find(name).arithmetic for name in ("fp32", "fp16")} == {
        "fp32": "fp32",
        "fp16": "fp16",
    }
    assert table.DEFAULT == "ibm2020"
    assert table.find(table.DEFAULT).name == table.DEFAULT
    assert all(name == recipe.name and recipe.source for name, recipe in table.RECIPES.items())
    learned = table.find("ibm2020-learned-scale")
    assert (learned.dgrad.scale, learned.wgrad.scale) == ("learned", "learned")
    assert (learned.dgrad.phase, learned.wgrad.phase) == (0, 1)


def test_what_the_paper_does_not_say_is_called_reconstructed():
    assert [name for name, recipe in table.RECIPES.items() if "reconstructed" in recipe.source] == [
        "ibm2020",
        "ibm2020-learned-scale",
    ]


def test_a_recipe_that_does_not_exist():
    with pytest.raises(RecipeError) as refusal:
        table.find("ibm")
    assert str(refusal.value) == f"no recipe 'ibm'; there are: {', '.join(table.RECIPES)}; or a file.toml"


@pytest.mark.parametrize("name", ["auto", "auto~sawb"])
def test_auto_is_no_recipe_of_one_site(name):
    with pytest.raises(RecipeError) as refusal:
        table.find(name)
    assert str(refusal.value) == (
        f"auto is chosen by the whole model, here a recipe is named: {', '.join(table.RECIPES)}"
    )
    assert refusal.value.wrong_use


def test_the_threshold_is_that_of_the_format():
    assert module.UNBIASED == log4.UNBIASED == 3 / math.log(4)


def test_names_are_those_of_the_formats():
    assert set(FORMATS) >= set(ROWS)
    assert set(module._FITTING) == set(FORMATS)
    assert {scale for scales in module._FITTING.values() for scale in scales} == set(SCALES)


PAIRS = {
    ("int4", "pact"),
    ("int4", "pact+"),
    ("int4", "clip"),
    ("int4", "sawb"),
    ("int4", "absmax"),
    ("int4", "block16"),
    ("int4_full", "minmax"),
    ("uint4", "pact"),
    ("uint4", "pact+"),
    ("uint4", "clip"),
    ("log4", "gradient"),
    ("log4", "learned"),
    ("log4", "shared"),
    ("log2", "underflow"),
    ("e2m1", "nvfp4"),
    ("e2m1", "nvfp4_2d"),
    ("e2m1", "mxfp4"),
}
DRAWN = {pair for pair in PAIRS if pair[1] not in ("pact", "pact+", "clip", "sawb", "minmax")}


@pytest.mark.parametrize(("format", "scale"), [*itertools.product(FORMATS, SCALES)])
def test_formats_and_scale_rules(format, scale):
    if (format, scale) in PAIRS:
        assert Quantizer(format, scale).scale == scale
        return
    with pytest.raises(RecipeError) as refusal:
        Quantizer(format, scale)
    said = f"format {format!r} does not go with scale rule {scale!r}; format {format!r} goes with: "
    assert {rule for name, rule in PAIRS if name == format} == {
        *str(refusal.value).removeprefix(said).split(", ")
    }


BLOCK, LUQ = Quantizer("e2m1", "nvfp4"), Quantizer("log2", "underflow", rounding="stochastic")
BLOCKED = {"activation": BLOCK, "weight": BLOCK, "dgrad": BLOCK, "wgrad": BLOCK}
_OPERANDS = "sawb, absmax, minmax, nvfp4, nvfp4_2d, mxfp4, block16"
_GRADIENTS = "gradient, learned, shared, underflow, absmax, sawb, nvfp4, nvfp4_2d, mxfp4, block16"

REFUSED = {
    "format": (
        lambda: Quantizer("fp4", "absmax"),
        "no format 'fp4'; there are: int4, int4_full, uint4, log4, log2, e2m1",
    ),
    "scale": (
        lambda: Quantizer("int4", "max"),
        "no scale rule 'max'; format 'int4' goes with: pact, pact+, clip, sawb, absmax, block16",
    ),
    "phase": (
        lambda: Quantizer("log4", "gradient", phase=3),
        "phase is 0 (even), 1 (odd) or 2 (both), not 3",
    ),
    "phase of another format": (
        lambda: Quantizer("log2", "underflow", phase=1),
        "only format 'log4' has the phase 'odd', not 'log2'",
    ),
    "both phases of another format": (
        lambda: Quantizer("int4", "absmax", phase=2),
        "only format 'log4' has the phase 'both', not 'int4'",
    ),
    "both phases of a draw": (
        lambda: Quantizer("log4", "gradient", phase=2, rounding="stochastic"),
        "both phases are rounded to nearest; with stochastic rounding, use samples = 2",
    ),
    "threshold below": (
        lambda: Quantizer("log4", "gradient", threshold=0.99),
        "threshold is from 1 to 4, the next level, not 0.99",
    ),
    "threshold above": (
        lambda: Quantizer("log4", "gradient", threshold=4.01),
        "threshold is from 1 to 4, the next level, not 4.01",
    ),
    "threshold that is none": (
        lambda: Quantizer("log4", "gradient", threshold=float("nan")),
        "threshold is from 1 to 4, the next level, not nan",
    ),
    "threshold of another format": (
        lambda: Quantizer("int4", "absmax", threshold=2.0),
        "only format 'log4' rounded to nearest has a threshold",
    ),
    "threshold of a draw": (
        lambda: Quantizer("log4", "gradient", threshold=2.0, rounding="stochastic"),
        "only format 'log4' rounded to nearest has a threshold",
    ),
    "dither of another format": (
        lambda: Quantizer("log2", "underflow", dither=True),
        "only format 'log4' rounded to nearest has a dithered scale",
    ),
    "dither of a draw": (
        lambda: Quantizer("log4", "gradient", rounding="stochastic", dither=True),
        "only format 'log4' rounded to nearest has a dithered scale",
    ),
    "rounding": (
        lambda: Quantizer("int4", "absmax", rounding="up"),
        "no rounding 'up'; there are: nearest, stochastic",
    ),
    "rounding that would bias": (
        lambda: Quantizer("int4", "sawb", rounding="stochastic"),
        "scale rule 'sawb' does not round stochastically; those that do: "
        "gradient, learned, shared, underflow, absmax, nvfp4, nvfp4_2d, mxfp4, block16",
    ),
    "samples": (
        lambda: Quantizer("log2", "underflow", rounding="stochastic", samples=3),
        "samples is 1 or 2, not 3",
    ),
    "samples that are the same": (
        lambda: Quantizer("log2", "underflow", samples=2),
        "two samples of a quantiser that rounds to nearest are the same; use 1",
    ),
    "samples of blocks": (
        lambda: Quantizer("int4", "block16", rounding="stochastic", samples=2),
        "two samples need one scale a tensor; 'block16' has one a block",
    ),
    "samples of a weight": (
        lambda: Recipe("mine", dgrad_weight=Quantizer("int4", "absmax", rounding="stochastic", samples=2)),
        "recipe 'mine': only dgrad and wgrad can have two samples, not dgrad_weight",
    ),
    "hadamard": (
        lambda: Quantizer("e2m1", "nvfp4", hadamard=32),
        "hadamard is 0 (none) or 16, not 32",
    ),
    "hadamard of a tensor": (
        lambda: Quantizer("int4", "absmax", hadamard=16),
        "hadamard needs a scale a block (nvfp4, nvfp4_2d, mxfp4, block16), not 'absmax'",
    ),
    "arithmetic": (
        lambda: Recipe("mine", arithmetic="8-bit"),
        "no arithmetic '8-bit'; there are: 4-bit, fp16, fp32",
    ),
    "activation": (
        lambda: Recipe("mine", activation=Quantizer("log4", "learned")),
        "recipe 'mine': activation cannot have the scale rule 'learned'; there are: pact, pact+, clip, "
        f"{_OPERANDS}",
    ),
    "activation by chance": (
        lambda: Recipe("mine", activation=Quantizer("int4", "absmax", rounding="stochastic")),
        "recipe 'mine': activation cannot round stochastically, because evaluation has no random numbers; "
        "use rounding 'nearest'",
    ),
    "weight": (
        lambda: Recipe("mine", weight=PACT),
        f"recipe 'mine': weight cannot have the scale rule 'pact'; there are: {_OPERANDS}",
    ),
    "dgrad with a zero point": (
        lambda: Recipe("mine", dgrad=FULL),
        f"recipe 'mine': dgrad cannot have the scale rule 'minmax'; there are: {_GRADIENTS}",
    ),
    "wgrad with a clip": (
        lambda: Recipe("mine", wgrad=PACT),
        f"recipe 'mine': wgrad cannot have the scale rule 'pact'; there are: {_GRADIENTS}",
    ),
    "second activation with a clip": (
        lambda: Recipe("mine", wgrad_activation=PACT),
        f"recipe 'mine': wgrad_activation cannot have the scale rule 'pact'; there are: {_OPERANDS}",
    ),
    "keep_last": (
        lambda: Recipe("mine", keep_last=1.0),
        "recipe 'mine': keep_last is from 0 to less than 1, not 1.0",
    ),
    "blocks meet a tensor": (
        lambda: Recipe("mine", **BLOCKED | {"wgrad": EVEN}),
        "recipe 'mine': wgrad (log4 even gradient 2.1640425613334453 dither) and activation (e2m1 nvfp4) "
        "meet in one product; "
        "both or neither need a scale a block, of one size, and the same hadamard",
    ),
    "blocks of two sizes": (
        lambda: Recipe("mine", **BLOCKED | {"weight": Quantizer("e2m1", "mxfp4")}),
        "recipe 'mine': activation (e2m1 nvfp4) and weight (e2m1 mxfp4) meet in one product; "
        "both or neither need a scale a block, of one size, and the same hadamard",
    ),
    "hadamard on one side": (
        lambda: Recipe("mine", **BLOCKED | {"dgrad": Quantizer("e2m1", "nvfp4", hadamard=16)}),
        "recipe 'mine': dgrad (e2m1 nvfp4 hadamard=16) and weight (e2m1 nvfp4) meet in one product; "
        "both or neither need a scale a block, of one size, and the same hadamard",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(make, message):
    with pytest.raises(RecipeError) as refusal:
        make()
    assert str(refusal.value) == message


QUANTIZERS = [
    *(Quantizer(format, scale) for format, scale in sorted(PAIRS)),
    *(Quantizer(format, scale, rounding="stochastic") for format, scale in sorted(DRAWN)),
    *(Quantizer("log4", "gradient", *odd) for odd in [(1, 2.5), (1, 2.0), (0, 1.1), (0, 3 / math.log(4))]),
    Quantizer("log4", "learned", 1, rounding="stochastic", samples=2),
    Quantizer("e2m1", "nvfp4", rounding="stochastic", hadamard=16),
    Quantizer("int4", "block16", rounding="stochastic", hadamard=16),
]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=Quantizer.text)
def test_a_plan_reads_what_it_wrote(quantizer):
    assert Quantizer.parse(quantizer.text()) == quantizer


def test_every_quantiser_is_written_in_its_own_way():
    assert len({quantizer.text() for quantizer in QUANTIZERS}) == len(QUANTIZERS)


@pytest.mark.parametrize(("format", "scale"), sorted(PAIRS - DRAWN))
def test_what_does_not_draw(format, scale):
    with pytest.raises(RecipeError, match="does not round stochastically"):
        Quantizer(format, scale, rounding="stochastic")


@pytest.mark.parametrize("scale", ["pact", "pact+", "clip"])
def test_the_operand_decides_the_format_of_a_clip(scale):
    for format in ("int4", "uint4"):
        quantizer = Quantizer(format, scale)
        assert quantizer.resolved(nonnegative=True) == Quantizer("uint4", scale)
        assert quantizer.resolved(nonnegative=False) == Quantizer("int4", scale)
    assert LINEAR.resolved(nonnegative=True) is LINEAR


def test_how_a_plan_writes():
    assert [q.text() for q in (EVEN, ODD, LINEAR, FULL)] == [
        "log4 even gradient 2.1640425613334453 dither",
        "log4 odd gradient 2.1640425613334453 dither",
        "int4 absmax",
        "int4_full minmax",
    ]
    assert Quantizer("log4", "learned", 1, 2.0).text() == "log4 odd learned 2.0"
    assert LUQ.text() == "log2 underflow stochastic"
    assert dataclasses.replace(LUQ, samples=2).text() == "log2 underflow stochastic samples=2"
    assert QUANTIZERS[-2].text() == "e2m1 nvfp4 stochastic hadamard=16"


@pytest.mark.parametrize("point", ["activation", "weight"])
def test_every_scale_rule_that_is_let_through_has_a_quantiser(point):
    """What a recipe accepts, the expansion can do."""
    import onnx_graphsurgeon as gs

    from fourbit_onnx.passes.roles import Roles

    for quantizer in QUANTIZERS:
        try:
            dataclasses.replace(Recipe("mine"), **{point: quantizer})
        except RecipeError:
            continue
        if quantizer.blocked or quantizer.stochastic:
            continue
        builder = OperandBuilder(gs.Graph(), Roles([], []))
        operand = builder.quantize(gs.Variable("t"), quantizer.text(), "t", gs.Variable("c"))
        assert operand.codes.inputs[0].op.startswith("Quantize")


def test_arithmetics_are_three():
    assert ARITHMETICS == ("4-bit", "fp16", "fp32")
