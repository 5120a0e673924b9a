"""The folder of a check: what it writes of a recipe, to tell it from another; what a refusal leaves."""

import contextlib
import dataclasses
import json

import pytest
from cli import full_disk
from harness_runs import tiny

from fourbit_onnx.errors import ArtifactError, DataError
from fourbit_onnx.harness import folder
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Quantizer, Recipe


@pytest.mark.parametrize("recipe", [*table.RECIPES, "ibm2020~sawb"])
def test_a_recipe_is_described_with_all_that_decides_a_number(recipe):
    """So that a default that changes makes another recipe of it."""
    found = json.loads(json.dumps(folder.described(table.find(recipe))))
    fields = {
        key: Quantizer(**value)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in found.items()
    }
    assert Recipe(**fields, source=table.find(recipe).source) == table.find(recipe)
    assert set(found) == {field.name for field in dataclasses.fields(Recipe)} - {"source"}
    assert set(found["wgrad"]) == {field.name for field in dataclasses.fields(Quantizer)}


def refused(place, name):
    """A check that writes this file and is then refused."""
    with contextlib.suppress(DataError), folder.Folder(place).opened(tiny(), {}, {}, force=False):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("{}")
        raise DataError("one label is out of range")


def test_a_refusal_leaves_nothing_of_what_it_began(tmp_path):
    refused(tmp_path / "x", "work/ibm2020/0.log")
    assert not (tmp_path / "x").exists()


def test_a_refusal_leaves_what_was_begun_before(tmp_path):
    """A run that was stopped, and is to go on."""
    with folder.Folder(tmp_path / "x").opened(tiny(), {}, {}, force=False):
        (tmp_path / "x" / "work").mkdir()
        (tmp_path / "x" / "work" / "kept").write_text("")
    refused(tmp_path / "x", "work/ibm2020/0.log")
    assert (tmp_path / "x" / folder.MARK).is_file()
    assert (tmp_path / "x" / "work" / "kept").is_file()


def test_a_refusal_leaves_a_finished_run(tmp_path):
    refused(tmp_path / "x", "runs/ibm2020/0.json")
    assert (tmp_path / "x" / folder.MARK).is_file()
    assert (tmp_path / "x" / "runs" / "ibm2020" / "0.json").is_file()


def test_a_full_disk_leaves_no_empty_folder(tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        with full_disk(10), pytest.raises(ArtifactError, match=r"^cannot write .*/check.json: "):
            folder.Folder(tmp_path / name).opened(tiny(), {}, {}, force=False).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
