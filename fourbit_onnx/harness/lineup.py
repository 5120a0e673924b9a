"""The recipes of a check: the baseline, those that were named, and each without a technique."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Recipe
from fourbit_onnx.recipes.techniques import WITHOUT

if TYPE_CHECKING:
    import onnx

BASELINE = "fp16"
Given = TypeVar("Given", bound=str | Recipe)
TOML = ".toml"


def lineup(recipes: Sequence[str | Recipe], without: Sequence[str] = ()) -> dict[str, str | Recipe]:
    """Recipe to itself, or to what `table.find` takes from anywhere; in the order of the report.

    The baseline is the first.

    Args:
        recipes: Names of the table, paths of TOML files, either of which may end in ``~TECHNIQUE``; recipes.
        without: Techniques: every recipe that has one joins once more, without it.

    Raises:
        RecipeError: There is no such recipe or technique, no recipe has it, or two recipes share a name.
    """
    found: dict[str, str | Recipe] = {}
    for given in dict.fromkeys([BASELINE, *recipes]):
        _add(found, given)
    named = list(found.values())
    for technique in without:
        refusals = []
        for given in named:
            try:
                if isinstance(given, Recipe):
                    _add(found, given.without(technique))
                else:
                    _add(found, f"{given}{WITHOUT}{technique}")
            except RecipeError as error:
                refusals.append(error)
        if len(refusals) == len(named):
            raise refusals[-1]
    return found


def resolved(
    recipes: Sequence[Given], model: "Callable[[], Path | onnx.ModelProto]"
) -> tuple[list[Given], str]:
    """`choose_recipe.resolve` of each, once; and why, "" if there is no ``auto`` among them."""
    from fourbit_onnx.passes.choose_recipe import resolve

    found: list[tuple[Any, str]] = [
        (given, "") if isinstance(given, Recipe) else resolve(given, model) for given in recipes
    ]
    return list(dict.fromkeys(given for given, _ in found)), next((why for _, why in found if why), "")


def _add(found: dict[str, str | Recipe], given: str | Recipe) -> None:
    if isinstance(given, Recipe):
        known = table.RECIPES.get(given.name, given)
        if found.get(given.name, given) != given or dataclasses.replace(known, source=given.source) != given:
            raise RecipeError(f"another recipe is called {given.name!r}; give yours a name of its own")
        found[given.name] = given
        return
    file, toml, technique = given.rpartition(TOML)
    if toml:
        given = f"{Path(file + toml).absolute()}{technique}"
    name = table.find(given).name
    if found.get(name, given) != given:
        other = found[name]
        other = "a Recipe(...)" if isinstance(other, Recipe) else other
        raise RecipeError(f"{other} and {given} are both called {name!r}; rename one of them")
    found[name] = given
