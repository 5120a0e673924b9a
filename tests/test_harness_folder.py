"""What the folder of a check writes of a recipe, to tell it from another of the same name."""

import dataclasses
import json

import pytest

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
