"""The recipes of a check: the baseline, those that were named, and each without a technique."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.techniques import WITHOUT

if TYPE_CHECKING:
    import onnx

BASELINE = "fp16"
TOML = ".toml"


def lineup(recipes: Sequence[str], without: Sequence[str] = ()) -> dict[str, str]:
    """Recipe to what `table.find` takes from anywhere, in the order of the report, the baseline first.

    Args:
        recipes: Names of the table, paths of TOML files; either may end in ``~TECHNIQUE``.
        without: Techniques: every recipe that has one joins once more, without it.

    Raises:
        RecipeError: There is no such recipe or technique, no recipe has it, or two recipes share a name.
    """
    found: dict[str, str] = {}
    for given in dict.fromkeys([BASELINE, *recipes]):
        _add(found, given)
    named = list(found.values())
    for technique in without:
        refusals = []
        for given in named:
            try:
                _add(found, f"{given}{WITHOUT}{technique}")
            except RecipeError as error:
                refusals.append(error)
        if len(refusals) == len(named):
            raise refusals[-1]
    return found


def resolved(recipes: Sequence[str], model: "Callable[[], Path | onnx.ModelProto]") -> tuple[list[str], str]:
    """`choose_recipe.resolve` of each, once; and why, "" if there is no ``auto`` among them."""
    from fourbit_onnx.passes.choose_recipe import resolve

    found = [resolve(given, model) for given in recipes]
    return list(dict.fromkeys(name for name, _ in found)), next((why for _, why in found if why), "")


def _add(found: dict[str, str], given: str) -> None:
    file, toml, technique = given.rpartition(TOML)
    if toml:
        given = f"{Path(file + toml).absolute()}{technique}"
    name = table.find(given).name
    if found.get(name, given) != given:
        raise RecipeError(f"{found[name]} and {given} are both called {name!r}; rename one of them")
    found[name] = given
