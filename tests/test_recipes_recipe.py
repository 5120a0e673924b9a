"""Recipes: which combinations there are, and how a plan writes and reads them."""

import dataclasses
import itertools

import pytest

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.formats.table import FORMATS as ROWS
from fourbit_onnx.passes.operands import OperandBuilder
from fourbit_onnx.recipes import recipe as module
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import ARITHMETICS, FORMATS, SCALES, Quantizer, Recipe

EVEN, ODD = Quantizer("log4", "gradient"), Quantizer("log4", "gradient", phase=1)
LINEAR, FULL = Quantizer("int4", "absmax"), Quantizer("int4_full", "minmax")
PACT, SAWB = Quantizer("uint4", "pact"), Quantizer("int4", "sawb")

# NUMERICS, section 6: recipe, fwd.x, fwd.w, dgrad.dy, wgrad.dy
ROWS_OF_THE_PAGE = {
    "minmax": (FULL, FULL, EVEN, ODD),
    "ibm2020": (PACT, SAWB, EVEN, ODD),
    "ibm2020-notpr": (PACT, SAWB, EVEN, EVEN),
    "int4-linear": (PACT, SAWB, LINEAR, LINEAR),
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
    assert str(refusal.value) == f"no recipe 'ibm'; there are: {', '.join(table.RECIPES)}"


def test_names_are_those_of_the_formats():
    assert set(FORMATS) == set(ROWS)
    assert set(module._FITTING) == set(FORMATS)
    assert {scale for scales in module._FITTING.values() for scale in scales} == set(SCALES)


PAIRS = {
    ("int4", "pact"),
    ("int4", "sawb"),
    ("int4", "absmax"),
    ("int4_full", "minmax"),
    ("uint4", "pact"),
    ("log4", "gradient"),
    ("log4", "learned"),
}


@pytest.mark.parametrize(("format", "scale"), [*itertools.product(FORMATS, SCALES)])
def test_formats_and_scale_rules(format, scale):
    if (format, scale) in PAIRS:
        assert Quantizer(format, scale).scale == scale
        return
    with pytest.raises(RecipeError) as refusal:
        Quantizer(format, scale)
    assert str(refusal.value) == f"format {format!r} does not go with scale rule {scale!r}"


REFUSED = {
    "format": (
        lambda: Quantizer("fp4", "absmax"),
        "no format 'fp4'; there are: int4, int4_full, uint4, log4",
    ),
    "scale": (
        lambda: Quantizer("int4", "max"),
        "no scale rule 'max'; there are: pact, sawb, absmax, minmax, gradient, learned",
    ),
    "phase": (lambda: Quantizer("log4", "gradient", phase=2), "phase is 0 (even) or 1 (odd), not 2"),
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
    "arithmetic": (
        lambda: Recipe("mine", arithmetic="8-bit"),
        "no arithmetic '8-bit'; there are: 4-bit, fp16, fp32",
    ),
    "activation": (
        lambda: Recipe("mine", activation=Quantizer("log4", "learned")),
        "recipe 'mine': activation cannot have the scale rule 'learned'; "
        "there are: pact, sawb, absmax, minmax",
    ),
    "weight": (
        lambda: Recipe("mine", weight=PACT),
        "recipe 'mine': weight cannot have the scale rule 'pact'; there are: sawb, absmax, minmax",
    ),
    "dgrad with a zero point": (
        lambda: Recipe("mine", dgrad=FULL),
        "recipe 'mine': dgrad cannot have the scale rule 'minmax'; "
        "there are: gradient, learned, absmax, sawb",
    ),
    "wgrad with a clip": (
        lambda: Recipe("mine", wgrad=PACT),
        "recipe 'mine': wgrad cannot have the scale rule 'pact'; there are: gradient, learned, absmax, sawb",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(make, message):
    with pytest.raises(RecipeError) as refusal:
        make()
    assert str(refusal.value) == message


QUANTIZERS = [
    Quantizer(format, scale, phase, threshold)
    for format, scale in sorted(PAIRS)
    for phase, threshold in ([(0, 2.5), (1, 2.5), (1, 2.0), (0, 1.1)] if format == "log4" else [(0, 2.5)])
]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=Quantizer.text)
def test_a_plan_reads_what_it_wrote(quantizer):
    read = Quantizer.parse(quantizer.text())
    if quantizer.scale == "pact":  # the operand decides, and it is signed here
        assert read == Quantizer("int4", "pact")
        assert Quantizer.parse(quantizer.text(nonnegative=True)) == PACT
    else:
        assert read == quantizer
        assert quantizer.text(nonnegative=True) == quantizer.text()


def test_how_a_plan_writes():
    assert [q.text() for q in (EVEN, ODD, LINEAR, FULL)] == [
        "log4 even gradient",
        "log4 odd gradient",
        "int4 absmax",
        "int4_full minmax",
    ]
    assert Quantizer("log4", "learned", 1, 2.0).text() == "log4 odd learned 2.0"


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
        builder = OperandBuilder(gs.Graph(), Roles([], []))
        operand = builder.quantize(gs.Variable("t"), quantizer.text(), "t", gs.Variable("c"))
        assert operand.codes.inputs[0].op.startswith("Quantize")


def test_arithmetics_are_three():
    assert ARITHMETICS == ("4-bit", "fp16", "fp32")
