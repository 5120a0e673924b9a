"""The recipes of a check: the baseline, those that were named, and each without a technique."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import table

if TYPE_CHECKING:
    import onnx

BASELINE = "fp16"
TOML = ".toml"
WITHOUT = "~"  # RECIPE~TECHNIQUE, as `table.find` understands it


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
    """``recipes`` with the name of a recipe in place of ``auto``, and the sentence that says why; "" if none.

    Args:
        recipes: As for `lineup`; ``auto`` may be among them.
        model: What ``auto`` looks at; called only if it is there.

    Raises:
        GraphError: The model cannot be read.
    """
    if all(given.partition(WITHOUT)[0] != table.AUTO for given in recipes):
        return list(recipes), ""
    from fourbit_onnx.passes.choose_recipe import choose_recipe
    from fourbit_onnx.passes.load import load

    found = model()
    choice = choose_recipe(load(found) if isinstance(found, Path) else found)
    names = []
    for given in recipes:
        first, sign, rest = given.partition(WITHOUT)
        names.append(choice.recipe.name + sign + rest if first == table.AUTO else given)
    return list(dict.fromkeys(names)), choice.sentence()


def _add(found: dict[str, str], given: str) -> None:
    file, toml, technique = given.rpartition(TOML)
    if toml:
        given = f"{Path(file + toml).absolute()}{technique}"
    name = table.find(given).name
    if found.get(name, given) != given:
        raise RecipeError(f"{found[name]} and {given} are both called {name!r}; rename one of them")
    found[name] = given
