"""The projected cost of a plan: by hand on a small one, and the figures that it comes from."""

import re
from pathlib import Path

import pytest

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import hardware, table
from fourbit_onnx.recipes.hardware import FIGURES, Figure
from fourbit_onnx.recipes.plan import POINTS, Plan, Site
from fourbit_onnx.recipes.projection import KEPT, PRODUCTS, Phase, project
from fourbit_onnx.recipes.recipe import BLOCKS, FORMATS, TRAINED_CLIPS

# Powers of two, so that every cost below is exact.
ROUND = {
    "fp16": Figure(1.0, 1.0, "", ""),
    "fp32": Figure(2.0, 4.0, "", ""),
    "int4": Figure(1 / 8, 1 / 16, "", ""),
    "log4": Figure(1 / 4, 1 / 8, "", ""),
    "log2": Figure(1 / 2, 1 / 32, "", ""),
    "e2m1": Figure(1 / 4, 1 / 4, "", ""),
}


def points(recipe):
    r = table.find(recipe)
    again = r.dgrad_weight or r.weight, r.wgrad_activation or r.activation
    quantizers = (r.activation, r.weight, r.dgrad, *again, r.wgrad)
    return {point: quantizer.text() for point, quantizer in zip(POINTS, quantizers, strict=True)}


def site(name, macs, recipe="", precision="4-bit", gradients=("x", "w")):
    of = points(recipe) if recipe else {}
    return Site(name, "Gemm", name, "w", precision, points=of, macs=macs, gradients=list(gradients))


SITES = [
    site("first", 100, precision="fp32", gradients=["w"]),
    site("middle", 600, "ibm2020-onephase"),
    site("drawn", 200, "luq-smp2"),
    site("halves", 50, precision="fp16"),
    site("unknown", 0, "ibm2020-onephase"),
]
# 2 products of 100, and 3 of 600, 200 and 50.
TOTAL = 2750


def test_by_hand():
    """Drawn: log2 is dearer than int4 in time, int4 in energy; its wgrad is done twice."""
    found = project(Plan("r", SITES), ROUND)
    assert found.phases == (
        Phase("forward", 800, 800 / TOTAL, 800 / 8 / TOTAL, 800 / 16 / TOTAL),
        Phase("dgrad", 800, 800 / TOTAL, (600 / 4 + 200 / 2) / TOTAL, (600 / 8 + 200 / 16) / TOTAL),
        Phase("wgrad", 800, 800 / TOTAL, (600 / 4 + 2 * 200 / 2) / TOTAL, (600 / 8 + 2 * 200 / 16) / TOTAL),
        Phase(KEPT, 350, 350 / TOTAL, (200 * 2 + 150) / TOTAL, (200 * 4 + 150) / TOTAL),
    )
    assert found.kept == found.phases[-1]
    # Four quotients and three sums, of numbers below 1/2: eight roundings of 2**-54.
    assert found.time == pytest.approx((100 + 250 + 350 + 550) / TOTAL, abs=2.0**-51)
    assert found.energy == pytest.approx((50 + 87.5 + 100 + 950) / TOTAL, abs=2.0**-51)
    assert found.unknown == 1
    assert [*found.figures] == ["fp16", "fp32", "int4", "log4", "log2"]


def test_both_phases_are_two_products():
    """Of each gradient; the forward product is one."""
    mean, one = (
        project(Plan("r", [site("a", 5, recipe)]), ROUND) for recipe in ("ibm2020", "ibm2020-onephase")
    )
    for part, single, times in zip(mean.phases, one.phases, (1, 2, 2, 1), strict=True):
        assert part.macs == single.macs
        assert (part.time, part.energy) == (times * single.time, times * single.energy)


@pytest.mark.parametrize("recipe", ["luq", "nvfp4"])
def test_products_that_nothing_needs_are_none_without_a_trained_clip(recipe):
    found = project(Plan("r", [site("a", 5, recipe, gradients=())]))
    assert [phase.macs for phase in found.phases] == [5, 0, 0, 0]
    assert found.phases[1].time == found.phases[2].time == 0


@pytest.mark.parametrize("scale", TRAINED_CLIPS)
def test_every_trained_clip_needs_dgrad_of_the_data(scale):
    plan = Plan("r", [site("a", 8, "ibm2020-onephase", gradients=["w"])])
    plan.sites[0].points["fwd.x"] = f"uint4 {scale}"
    assert project(plan, ROUND).phases[1].time == 1 / 8


def test_a_trained_clip_needs_dgrad_of_the_data():
    """dgrad costs a quarter of one of the two products that FP16 has, and is none of them."""
    found = project(Plan("r", [site("a", 8, "ibm2020-onephase", gradients=["w"])]), ROUND)
    assert [phase.macs for phase in found.phases] == [8, 0, 8, 0]
    assert [phase.time for phase in found.phases] == [1 / 16, 1 / 8, 1 / 8, 0]
    assert [phase.energy for phase in found.phases] == [1 / 32, 1 / 16, 1 / 16, 0]


def test_what_fp16_costs_is_the_unit():
    found = project(Plan("fp16", [site("a", 7, precision="fp16"), site("b", 3, precision="fp16")]))
    assert (found.time, found.energy, found.kept.time) == (1, 1, 1)
    assert [phase.macs for phase in found.phases] == [0, 0, 0, 30]


def test_nothing_in_high_precision():
    found = project(Plan("ibm2020-onephase", [site("a", 300, "ibm2020-onephase")]))
    assert found.kept == Phase(KEPT, 0, 0, 0, 0)
    assert found.time == pytest.approx((131 / 1049 + 2 / 7) / 3, abs=2.0**-51)  # as above
    assert found.energy == pytest.approx((179 / 1690 + 2 / 7) / 3, abs=2.0**-51)


@pytest.mark.parametrize(
    ("gradients", "macs"),
    [(("x", "w"), [5, 5, 5]), (("w",), [5, 0, 5]), (("x",), [5, 5, 0]), ((), [5, 0, 0])],
)
def test_products_that_nothing_needs_are_none(gradients, macs):
    found = project(Plan("r", [site("a", 5, "ibm2020-onephase", gradients=gradients)]))
    assert [phase.macs for phase in found.phases] == [*macs, 0]


@pytest.mark.parametrize("recipe", [name for name in table.RECIPES if table.find(name).arithmetic == "4-bit"])
def test_every_recipe_has_a_cost_below_fp16(recipe):
    found = project(Plan(recipe, [site("a", 9, recipe)]))
    assert 0 < found.time < 1
    assert 0 < found.energy < 1


@pytest.mark.parametrize("sites", [[], [site("a", 0, "ibm2020-onephase")]])
def test_nothing_to_project(sites):
    with pytest.raises(RecipeError, match=r"^there is nothing to project: no site"):
        project(Plan("r", sites))


def test_the_products_have_all_points():
    assert sorted(point for product in PRODUCTS.values() for point in product[:2]) == sorted(POINTS)


def test_figures():
    """26.2 and 104.9 TOPS, 3.58 and 16.9 TOPS/W, FP16 half of hybrid FP8: 13.1 / 104.9, 1.79 / 16.9."""
    # both numbers and their quotient are rounded: three times 2**-53 of an eighth
    assert FIGURES["int4"].time == pytest.approx(131 / 1049, abs=2.0**-54)
    assert FIGURES["int4"].energy == pytest.approx(179 / 1690, abs=2.0**-54)
    assert {FIGURES[row].time for row in ("log4", "log2")} == {1 / 7}
    assert (FIGURES["e2m1"].time, FIGURES["fp16"].time, FIGURES["fp16"].energy) == (0.25, 1, 1)
    assert all(figure.source and figure.derivation for figure in FIGURES.values())
    assert set(hardware.ROWS) == {*FORMATS, "fp16", "fp32"}
    assert set(hardware.ROWS.values()) == set(FIGURES)
    assert BLOCKS  # their scales are what the projection omits, and says so


def test_figures_of_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("int4 = {time = 0.25, energy = 0.2, source = 'a data sheet'}\n[log4]\ntime = 1\n")
    found = hardware.read(file)
    assert found["int4"] == Figure(0.25, 0.2, "time and energy as given", "a data sheet")
    assert (found["log4"].time, found["log4"].energy) == (1, 1 / 7)
    assert found["log4"].derivation == f"time as given; energy as before: {FIGURES['log4'].derivation}"
    assert found["log4"].source == f"{file}; {FIGURES['log4'].source}"
    assert [*found] == [*FIGURES]
    assert {row for row in found if found[row] != FIGURES[row]} == {"int4", "log4"}


@pytest.mark.parametrize(
    ("text", "message"),
    {
        "nothing": ("# nothing", " has no figures; give a table such as "),
        "no TOML": ("[", " is no TOML: "),
        "no row": ("[int8]", " has no key 'int8'; there are: fp32, int4, log4, log2, e2m1$"),
        "the unit": ("[fp16]\ntime = 2", " has no key 'fp16'"),
        "no table": ("int4 = 3", ": int4 is a table such as {time = 0.125, energy = 0.106}, not 3"),
        "no key": ("[int4]\nspeed = 3", ": int4 has no key 'speed'; there are: time, energy, source"),
        "neither": ("[int4]\nsource = 'x'", ": int4 has neither time nor energy"),
        "a text": ("[int4]\ntime = '3'", ": int4.time is a number, not '3'"),
        "a truth": ("[int4]\ntime = true", ": int4.time is a number, not True"),
        "zero": ("[int4]\nenergy = 0", r": int4.energy is a number above 0, FP16 = 1, not 0$"),
        "beyond a float": (
            f"[int4]\ntime = 1{'0' * 400}",
            r": int4.time is a number above 0, FP16 = 1, not inf",
        ),
        "infinite": ("[int4]\ntime = inf", r": int4.time is a number above 0, FP16 = 1, not inf"),
        "not a number": ("[int4]\ntime = nan", r": int4.time is a number above 0, FP16 = 1, not nan"),
        "too long": ("#" * 2**17, r" is larger than 65,536 bytes; that is no table of figures"),
    }.values(),
)
def test_a_file_without_figures_is_refused(tmp_path, text, message):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        hardware.read(file)
    assert str(caught.value).startswith(str(file))


def test_the_document_has_these_figures(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "projection.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
    assert {row: (time, energy) for row, time, energy in rows} == {
        row: (f"{figure.time:.4g}", f"{figure.energy:.4g}") for row, figure in FIGURES.items()
    }
    (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "doc.toml").write_text(example)
    assert hardware.read(tmp_path / "doc.toml") != FIGURES
