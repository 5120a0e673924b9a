"""A recipe from Python: values of another type are refused by name, and no text is taken letter by letter."""

import pytest

import fourbit_onnx
from fourbit_onnx import check, convert
from fourbit_onnx.errors import RecipeError
from fourbit_onnx.models import registry
from fourbit_onnx.recipes.recipe import Recipe

REFUSED = {
    "keep_last of another type": (
        lambda: Recipe("mine", keep_last="a"),
        "recipe 'mine': keep_last is from 0 to less than 1, not 'a'",
    ),
    "keep is one text": (
        lambda: Recipe("mine", keep="layer1*"),  # letter by letter, * would keep everything
        "recipe 'mine': keep is a list of patterns, such as ['layer1*'], not 'layer1*'",
    ),
    "keep of numbers": (
        lambda: Recipe("mine", keep=[1]),
        "recipe 'mine': keep is a list of patterns, such as ['layer1*'], not [1]",
    ),
    "a quantiser by name": (
        lambda: Recipe("mine", weight="sawb"),
        "recipe 'mine': weight is a Quantizer, such as Quantizer('int4', 'sawb'), not 'sawb'",
    ),
    "no quantiser": (
        lambda: Recipe("mine", dgrad=None),
        "recipe 'mine': dgrad is a Quantizer, such as Quantizer('int4', 'sawb'), not None",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(make, message):
    with pytest.raises(RecipeError) as refused:
        make()
    assert str(refused.value) == message


def test_a_list_is_as_good_as_a_tuple():
    assert Recipe("mine", keep=["a", "b*"]) == Recipe("mine", keep=("a", "b*"))


@pytest.mark.parametrize("name", ["keep", "freeze"])
def test_patterns_of_a_call(tmp_path, name):
    said = rf"^{name} is a list of patterns, such as \['layer1\*'\], not 'fc\*'"
    with pytest.raises(RecipeError, match=said):
        convert(registry.build("mlp"), tmp_path / "out", **{name: "fc*"})
    if name == "keep":
        with pytest.raises(RecipeError, match=said):
            check("digits", tmp_path / "out", keep="fc*")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("recipes", ["ibm2020", Recipe("mine")], ids=["name", "recipe"])
def test_recipes_are_a_list(tmp_path, recipes):
    with pytest.raises(
        RecipeError, match=r"^recipes is a list, such as \['ibm2020', 'luq'\], not one recipe$"
    ):
        check("digits", tmp_path / "out", recipes=recipes)
    assert not list(tmp_path.iterdir())


def test_completion_shows_what_there_is():
    assert dir(fourbit_onnx) == sorted(fourbit_onnx.__all__)
