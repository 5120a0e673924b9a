"""Recipes in TOML: every built-in one is read back, and each error names file, key and what is allowed."""

import dataclasses
import json
import math

import pytest
from cli import fourbit, mlp, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbit_onnx import convert
from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import table, toml
from fourbit_onnx.recipes.recipe import QUANTIZERS, Quantizer, Recipe

QUANTIZED = toml.write(table.find("ibm2020")).partition("\n\n")[2]  # the tables, no settings
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.mark.parametrize("name", [*table.RECIPES, "ibm2020~sawb"])
def test_every_recipe_is_read_back(tmp_path, name):
    recipe = table.find(name)
    file = tmp_path / "other.toml"
    file.write_text(toml.write(recipe))
    assert toml.read(file) == recipe
    assert table.find(str(file)) == recipe


def test_what_a_file_leaves_out_is_the_default(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(QUANTIZED)
    assert toml.read(file) == dataclasses.replace(table.find("ibm2020"), name="mine", source="user")
    file.write_text('arithmetic = "fp16"')  # which has no quantisers
    assert toml.read(file) == Recipe("mine", arithmetic="fp16")
    file.write_text("""
        keep = ["head*", "embed*"]
        keep_last = 0   # a whole number is a number
        [activation]
        format = "uint4"
        scale = "clip"
        [weight]
        format = "int4"
        scale = "absmax"
        [dgrad]
        format = "log2"
        scale = "underflow"
        [wgrad]
        format = "log4"
        scale = "learned"
        phase = "odd"
        threshold = 2
        [wgrad_activation]
        format = "int4"
        scale = "absmax"
        rounding = "stochastic"
    """)
    assert toml.read(file) == Recipe(
        "mine",
        keep=("head*", "embed*"),
        activation=Quantizer("uint4", "clip"),
        weight=Quantizer("int4", "absmax"),
        dgrad=Quantizer("log2", "underflow"),
        wgrad=Quantizer("log4", "learned", phase=1, threshold=2.0),
        wgrad_activation=Quantizer("int4", "absmax", rounding="stochastic"),
    )


@pytest.mark.parametrize("name", ["activation", "weight", "dgrad", "wgrad"])
def test_a_quantiser_that_is_missing_is_no_default(tmp_path, name):
    """luq without its [wgrad] would train with the gradients of ibm2020."""
    file = tmp_path / "mine.toml"
    tables = toml.write(dataclasses.replace(table.find("luq"), name="mine")).split("\n\n")
    assert len(tables) == 5
    file.write_text("\n\n".join(part for part in tables if not part.startswith(f"[{name}]")))
    sentence = (
        f"{file} has no [{name}], and a recipe of 4 bits needs activation, weight, dgrad, wgrad; take "
        "what is missing from a recipe that is printed by: fourbit inspect --toml --recipe NAME"
    )
    with pytest.raises(RecipeError) as refused:
        toml.read(file)
    assert str(refused.value) == sentence
    said = refusal("convert", mlp(), "-o", tmp_path / "out", "--recipe", file)
    assert said == sentence
    file.write_text("keep_ends = false")
    with pytest.raises(RecipeError, match=r"has no \[activation\], \[weight\], \[dgrad\], \[wgrad\], and"):
        toml.read(file)


def test_techniques_of_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(QUANTIZED)
    found = table.find(f"{file}~sawb")
    assert (found.name, found.weight.scale) == ("mine~sawb", "absmax")


@EXAMPLES
@given(st.text(max_size=30), st.lists(st.text(max_size=9), max_size=3), st.floats(0, 0.99))
def test_any_text_is_read_back(tmp_path_factory, source, keep, last):
    if any("\ud800" <= c <= "\udfff" for text in (source, *keep) for c in text):
        return
    file = tmp_path_factory.mktemp("toml") / "r.toml"
    recipe = Recipe("r", source=source, keep=tuple(keep), keep_last=last)
    file.write_text(toml.write(recipe), encoding="utf-8")
    assert toml.read(file) == recipe


KEYS = (
    "name, arithmetic, keep_ends, keep, keep_last, source, "
    "activation, weight, dgrad, wgrad, dgrad_weight, wgrad_activation"
)
SETTING = KEYS.replace("name, ", "").replace("source, ", "")
OWN = "format, scale, phase, threshold, rounding, samples, hadamard"
GOOD = "format = 'log4', scale = 'gradient'"
REFUSED = {
    "no such key": ("activaton = 1", f" has no key 'activaton'; there are: {KEYS}"),
    "no such key of a quantiser": (
        "weight = {format = 'int4', scale = 'sawb', bits = 4}",
        f": weight has no key 'bits'; there are: {OWN}",
    ),
    "no table": (
        "weight = 'int4'",
        ": weight is a table such as {format = 'int4', scale = 'sawb'}, not 'int4'",
    ),
    "no format": ("weight = {scale = 'sawb'}", ": weight has no format"),
    "no scale": ("[weight]\nformat = 'int4'", ": weight has no scale"),
    "kind": ("keep_ends = 'yes'", ": keep_ends is true or false, not 'yes'"),
    "a number that is a truth": ("keep_last = true", ": keep_last is a number, not True"),
    "no list": ("keep = 'head'", ": keep is a list of texts, not 'head'"),
    "no list of texts": ("keep = [1]", ": keep is a text in quotes, not 1"),
    "kind in a quantiser": (
        "weight = {format = 4, scale = 'sawb'}",
        ": weight.format is a text in quotes, not 4",
    ),
    "samples": (f"wgrad = {{{GOOD}, samples = 2.0}}", ": wgrad.samples is a whole number, not 2.0"),
    "phase": (f"wgrad = {{{GOOD}, phase = 'first'}}", ": wgrad.phase is one of even, odd, both, not 'first'"),
    "value": (
        "weight = {format = 'int5', scale = 'sawb'}",
        ": weight: no format 'int5'; there are: int4, int4_full, uint4, log4, log2, e2m1",
    ),
    "recipe": (
        QUANTIZED.replace('int4"\nscale = "sawb', 'uint4"\nscale = "pact'),
        ": recipe 'mine': weight cannot have the scale rule 'pact'; there are: sawb, absmax",
    ),
    "name": (
        f"name = '../mine'\n{QUANTIZED}",
        ": a recipe cannot be called '../mine'; up to 100 letters, digits and ._~+-",
    ),
    "no TOML": ("weight = ", " is no TOML: Invalid value (at end of document); correct it there"),
    "nested": ("keep = " + "[" * 9999 + "]" * 9999, " is no TOML: "),
    "not a number": (
        f"keep_last = nan\n{QUANTIZED}",
        ": recipe 'mine': keep_last is from 0 to less than 1, not nan",
    ),
    "empty": ("", f" is no recipe: it sets none of {SETTING}; print one to begin with: fourbit inspect --to"),
    "a comment": ("# ibm2020", " is no recipe: "),
    "a name": ('name = "ibm2020"\nsource = "me"', " is no recipe: "),
    "large": ("#" * 2**16 + "#", " is larger than 65,536 bytes; that is no recipe"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(RecipeError) as refusal:
        toml.read(file)
    assert str(refusal.value).startswith(f"{file}{message}")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml cannot be read \(No such file .*\)$") as absent:
        table.find(str(tmp_path / "none.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(RecipeError, match=r"folder\.toml cannot be read \(Is a directory\)$") as held:
        table.find(str(tmp_path / "folder.toml"))
    assert (absent.value.wrong_use, held.value.wrong_use) == (True, False)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"binary\.toml is no TOML: 'utf-8'"):
        table.find(str(tmp_path / "binary.toml"))


def test_a_changed_recipe_does_not_keep_a_name_of_the_table(tmp_path):
    file = tmp_path / "x.toml"
    same = dataclasses.replace(table.find("luq"), source="mine")
    file.write_text(toml.write(same))
    assert table.find(str(file)) == same
    file.write_text(toml.write(same).replace("stochastic", "nearest"))
    with pytest.raises(RecipeError, match=r"x.toml is not the recipe 'luq'; give it a name of its own"):
        table.find(str(file))


# ------------------------------------------------------------------------------------------ commands


def test_print_change_and_use(tmp_path):
    printed = fourbit("inspect", "--toml", "--recipe", "ibm2020")
    assert printed.exit_code == 0
    file = tmp_path / "mine.toml"
    file.write_text(printed.stdout.replace('"my-ibm2020"', '"mine"').replace('"sawb"', '"absmax"'))
    result = fourbit(
        "convert", mlp(), "-o", tmp_path / "out", "--recipe", file, "--without", "two-phase-rounding"
    )
    assert result.exit_code == 0, result.output
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["recipe"] == "mine~two-phase-rounding"
    (points, *_) = (site["points"] for site in plan["sites"] if site["points"])
    assert (points["fwd.w"], points["wgrad.dy"]) == (
        "int4 absmax",
        "log4 even gradient 2.1640425613334453 dither",
    )
    compiled = convert(mlp(), tmp_path / "again", recipe=str(file), without=["two-phase-rounding"])
    assert compiled.plan.recipe == plan["recipe"]
    shown = fourbit("inspect", mlp(), "--recipe", file)
    assert "recipe mine" in shown.stdout
    named = fourbit("convert", mlp(), "-o", tmp_path / "named", "--set", f"*={file}")
    assert named.exit_code == 0, named.output


def test_a_number_beyond_a_float_is_infinite():
    assert toml.checked("", 10**400, float) == math.inf
    assert toml.checked("", -(10**400), float) == -math.inf
    assert toml.checked("", 10**300, float) == 1e300


def test_refusals_of_the_commands(tmp_path):
    (tmp_path / "bad.toml").write_text("weight = 1")
    said = refusal("convert", mlp(), "-o", tmp_path / "out", "--recipe", tmp_path / "bad.toml")
    assert "bad.toml: weight is a table" in said
    said = refusal("convert", mlp(), "-o", tmp_path / "out", "--without", "hadamard", code=2)
    assert said.startswith("recipe 'ibm2020' has no hadamard to leave out")
    assert not (tmp_path / "out").exists()
    assert fourbit("inspect").exit_code == 2
    assert "Missing argument 'FILE_OR_DIR'" in fourbit("inspect").stderr


def test_the_fields_are_those_of_the_classes():
    assert set(toml._OF_QUANTIZER) == {field.name for field in dataclasses.fields(Quantizer)}
    assert {*toml._SETTINGS, *QUANTIZERS} == {field.name for field in dataclasses.fields(Recipe)}
