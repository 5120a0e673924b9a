"""The techniques of a recipe, each of which can be switched off alone: an ablation is one flag."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from fourbit_onnx.errors import RecipeError, as_wrong_use
from fourbit_onnx.recipes.recipe import QUANTIZERS, TRAINED_CLIPS, Quantizer, Recipe

WITHOUT = "~"  # between recipe and technique in the name of what is left


def _every(change: Callable[[Quantizer], Quantizer]) -> Callable[[Recipe], Recipe]:
    """What changes each quantiser of a recipe by itself."""

    def changed(recipe: Recipe) -> Recipe:
        fields: dict[str, Any] = {name: change(q) for name in QUANTIZERS if (q := getattr(recipe, name))}
        return dataclasses.replace(recipe, **fields)

    return changed


def _rule(old: tuple[str, ...], new: str) -> Callable[[Recipe], Recipe]:
    """What gives the scale rule ``new`` to quantisers that have one of ``old``."""
    return _every(lambda q: dataclasses.replace(q, scale=new) if q.scale in old else q)


def _one_phase(recipe: Recipe) -> Recipe:
    if {recipe.dgrad.format, recipe.wgrad.format} != {"log4"}:
        return recipe
    phase = 0 if recipe.dgrad.both_phases else recipe.dgrad.phase
    return dataclasses.replace(
        recipe,
        dgrad=dataclasses.replace(recipe.dgrad, phase=phase),
        wgrad=dataclasses.replace(recipe.wgrad, phase=phase),
    )


def _phase_each(recipe: Recipe) -> Recipe:
    return dataclasses.replace(
        recipe,
        dgrad=dataclasses.replace(recipe.dgrad, phase=0) if recipe.dgrad.both_phases else recipe.dgrad,
        wgrad=dataclasses.replace(recipe.wgrad, phase=1) if recipe.wgrad.both_phases else recipe.wgrad,
    )


# Technique to what takes it away; a recipe that stays as it is has it not.
TECHNIQUES: Mapping[str, Callable[[Recipe], Recipe]] = {
    # Both gradients on the grid of dgrad, the even one if that has both.
    "two-phase-rounding": _one_phase,
    # Each product on one grid: dgrad on the even one, wgrad on the odd one.
    "mean-of-phases": _phase_each,
    # One scale of the gradients, state of the whole model, as a loss scale would be.
    "layer-gradient-scale": _rule(("gradient", "learned"), "shared"),
    # The clips of activations are calibrated, then constant.
    "pact-training": _rule(TRAINED_CLIPS, "clip"),
    # The gradient of a clip is that of what is clipped alone.
    "clip-rounding-gradient": _rule(("pact+",), "pact"),
    # The largest magnitude is the top code.
    "sawb": _rule(("sawb",), "absmax"),
    # The grids of a layer's gradients are where they are in every step.
    "scale-dither": _every(lambda q: dataclasses.replace(q, dither=False)),
    "hadamard": _every(lambda q: dataclasses.replace(q, hadamard=0)),
    # Rounded to nearest, and therefore once.
    "stochastic-rounding": _every(lambda q: dataclasses.replace(q, rounding="nearest", samples=1)),
}


@as_wrong_use()
def without(recipe: Recipe, technique: str) -> Recipe:
    """``recipe`` with one technique switched off, called ``RECIPE~TECHNIQUE``.

    Raises:
        RecipeError: There is no such technique, or the recipe does not have it.
    """
    if technique not in TECHNIQUES:
        raise RecipeError(f"no technique {technique!r}; there are: {', '.join(TECHNIQUES)}")
    changed = TECHNIQUES[technique](recipe)
    if changed == recipe or recipe.arithmetic != "4-bit":
        has = ", ".join(techniques(recipe)) or "none"
        raise RecipeError(f"recipe {recipe.name!r} has no {technique} to leave out; it has: {has}")
    return dataclasses.replace(
        changed, name=f"{recipe.name}{WITHOUT}{technique}", source=f"{recipe.source}; without {technique}"
    )


def techniques(recipe: Recipe) -> list[str]:
    """The techniques that ``recipe`` has."""
    if recipe.arithmetic != "4-bit":
        return []
    return [name for name, change in TECHNIQUES.items() if change(recipe) != recipe]
