"""The recipes that come with the tool, one row each (NUMERICS, section 6)."""

from collections.abc import Mapping

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes.recipe import Quantizer, Recipe

DEFAULT = "ibm2020"

_LINEAR = Quantizer("int4", "absmax")
_MIN_MAX = Quantizer("int4_full", "minmax")
_EVEN = Quantizer("log4", "gradient", phase=0)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", arithmetic="fp32", source="reference"),
        Recipe("fp16", arithmetic="fp16", source="baseline: every operand and result rounded to binary16"),
        Recipe("minmax", activation=_MIN_MAX, weight=_MIN_MAX, source="affine min-max, the plainest"),
        Recipe("ibm2020", source="Sun et al., NeurIPS 2020 (phases and gradient scale reconstructed)"),
        Recipe(
            "ibm2020-learned-scale",
            dgrad=Quantizer("log4", "learned", phase=0),
            wgrad=Quantizer("log4", "learned", phase=1),
            source="ibm2020 with the gradient scale kept as state (reconstructed)",
        ),
        Recipe("ibm2020-notpr", wgrad=_EVEN, source="ablation: one phase for both gradients"),
        Recipe("int4-linear", dgrad=_LINEAR, wgrad=_LINEAR, source="ablation: linear INT4 gradients"),
    )
}


def find(name: str) -> Recipe:
    """The recipe called ``name``.

    Raises:
        RecipeError: There is none.
    """
    if name not in RECIPES:
        raise RecipeError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]
