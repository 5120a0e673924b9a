"""What the folder of a check writes of a recipe, to tell it from another of the same name."""

import pytest

from fourbit_onnx.formats import log4
from fourbit_onnx.harness import folder
from fourbit_onnx.recipes import table


def test_recipes_are_described_by_what_is_not_default():
    """So that a field that a later version adds does not make every folder another one."""
    assert folder.described(table.find("fp32")) == {"name": "fp32", "arithmetic": "fp32"}
    assert folder.described(table.find("ibm2020-static")) == {"name": "ibm2020-static"}


@pytest.mark.parametrize("recipe", ["ibm2020", "minmax", "ibm2020~sawb"])
def test_runs_before_gradients_were_dithered_are_those_of_another_recipe(recipe):
    """Then the default of dgrad and wgrad was that of ``ibm2020-static``, and was not written."""
    dithered = {"format": "log4", "scale": "gradient", "threshold": log4.UNBIASED, "dither": True}
    found = folder.described(table.find(recipe))
    assert (found["dgrad"], found["wgrad"]) == (dithered, dithered | {"phase": 1})
