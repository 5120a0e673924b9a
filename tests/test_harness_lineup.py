"""The recipes of a check: by name, of a file, given whole, and without a technique."""

import dataclasses

import pytest
from harness_runs import jobs, tiny

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.harness.check import Check
from fourbit_onnx.harness.lineup import lineup
from fourbit_onnx.recipes import table, toml
from fourbit_onnx.recipes.recipe import Quantizer, Recipe

pytestmark = pytest.mark.usefixtures("in_process")


def test_recipe_of_a_file_and_without_a_technique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = toml.write(dataclasses.replace(table.find("ibm2020"), name="mine"))
    (tmp_path / "mine.toml").write_text(mine)
    names = lineup(["mine.toml", "ibm2020"], ["two-phase-rounding"])
    assert names == {
        "fp16": "fp16",
        "mine": str(tmp_path / "mine.toml"),
        "ibm2020": "ibm2020",
        "mine~two-phase-rounding": f"{tmp_path / 'mine.toml'}~two-phase-rounding",
        "ibm2020~two-phase-rounding": "ibm2020~two-phase-rounding",
    }
    with pytest.raises(RecipeError, match="has no hadamard to leave out"):
        lineup(["minmax"], ["hadamard"])
    (tmp_path / "other.toml").write_text(mine.replace("keep_ends = true", "keep_ends = false"))
    with pytest.raises(RecipeError, match="are both called 'mine'; rename one of them"):
        lineup(["mine.toml", "other.toml"])


def test_lineup():
    assert lineup(["minmax", "fp16", "minmax"]) == {"fp16": "fp16", "minmax": "minmax"}
    with pytest.raises(RecipeError, match="no recipe 'ibm'"):
        lineup(["ibm"])


def test_a_recipe_given_whole(tmp_path):
    """It trains as the file of the same content does, and the folder knows it again."""
    own = Recipe("own", weight=Quantizer("int4", "absmax"), keep=["nothing*", "l*"], keep_ends=False)
    (tmp_path / "same.toml").write_text(toml.write(dataclasses.replace(own, name="same")))
    recipes = [own, str(tmp_path / "same.toml")]
    settings = {"without": ["two-phase-rounding"], "sensitivity": True}
    place = tmp_path / "x"
    report = Check(tiny(epochs=1), recipes, 1, place, **settings).run()
    runs = {run["recipe"]: run["epochs"] for run in report["runs"]}
    assert list(runs) == ["fp16", "own", "same", "own~two-phase-rounding", "same~two-phase-rounding"]
    assert runs["own"] == runs["same"] != runs["own~two-phase-rounding"]
    assert runs["own~two-phase-rounding"] == runs["same~two-phase-rounding"]
    assert report["sensitivity"]["recipe"] == "own"
    assert {row["name"]: row["source"] for row in report["recipes"]}["own"] == "user"
    Check(tiny(epochs=1), recipes, 2, place).run()
    assert jobs() == [("fp16", 1), ("own", 1), ("same", 1)]
    other = dataclasses.replace(own, keep_ends=True)
    with pytest.raises(RecipeError, match="another recipe is called 'own'; give yours a name of its own"):
        lineup([own, other])
    with pytest.raises(RecipeError, match=r"a Recipe\(...\) and .* are both called 'same'; rename one"):
        lineup([dataclasses.replace(own, name="same"), str(tmp_path / "same.toml")])
    with pytest.raises(RecipeError, match="another recipe is called 'luq'"):
        lineup([dataclasses.replace(own, name="luq")])
    assert lineup([table.find("luq")])["luq"] is table.find("luq")


def test_what_a_recipe_was_called():
    for name in ("ibm2020-mean", "ibm2020-mean~sawb"):
        with pytest.raises(RecipeError, match=r"^no recipe 'ibm2020-mean' \(it is called ibm2020 now\); "):
            table.find(name)
    with pytest.raises(RecipeError, match=r"^no recipe 'ibm2020-men'; there are: "):
        table.find("ibm2020-men")
