"""The recipes that come with the tool, one row each (NUMERICS, section 6)."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from fourbit_onnx.errors import RecipeError, as_wrong_use
from fourbit_onnx.recipes import toml
from fourbit_onnx.recipes.recipe import EVEN, ODD, Quantizer, Recipe
from fourbit_onnx.recipes.techniques import WITHOUT

DEFAULT = "ibm2020"  # within the margin in vision, speech and language: docs/accuracy.md
AUTO = "auto"  # what `choose_recipe` of the passes resolves
# By docs/accuracy.md: the best mean of each field, of the recipes with fast kernels.
BEST: Mapping[str, str] = {"vision": DEFAULT, "speech": DEFAULT, "language": "ibm2020-plus"}
_RENAMED = {"ibm2020-mean": "ibm2020"}  # before 2026-12-01
_TOML = ".toml"

_LINEAR = Quantizer("int4", "absmax")
_MIN_MAX = Quantizer("int4_full", "minmax")
# LUQ: clips by statistics, of calibration for activations (why not SAWB: docs/decisions.md), SAWB of weights.
_CLIP = Quantizer("uint4", "clip")
_LUQ = Quantizer("log2", "underflow", rounding="stochastic")
_LUQ_2 = Quantizer("log2", "underflow", rounding="stochastic", samples=2)
_NVFP4 = Quantizer("e2m1", "nvfp4")
_MXFP4, _MXFP4_DRAWN = Quantizer("e2m1", "mxfp4"), Quantizer("e2m1", "mxfp4", rounding="stochastic")
_BLOCK16 = Quantizer("int4", "block16", hadamard=16)
_BLOCK16_DRAWN = Quantizer("int4", "block16", rounding="stochastic", hadamard=16)

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", arithmetic="fp32", source="reference"),
        Recipe("fp16", arithmetic="fp16", source="baseline: every operand and result rounded to binary16"),
        Recipe(
            "minmax",
            activation=_MIN_MAX,
            weight=_MIN_MAX,
            dgrad=EVEN,
            wgrad=ODD,
            source="affine min-max, the plainest",
        ),
        # Why the mean of both phases, and not one for each product: docs/accuracy.md.
        Recipe(
            "ibm2020",
            source="Sun et al., NeurIPS 2020 (reconstructed); dither and mean of phases are ours",
        ),
        Recipe(
            "ibm2020-onephase",
            dgrad=EVEN,
            wgrad=ODD,
            source="ibm2020 with one phase for each product, as in the paper; dithered scale",
        ),
        Recipe(
            "ibm2020-static",
            dgrad=Quantizer("log4", "gradient", phase=0),
            wgrad=Quantizer("log4", "gradient", phase=1),
            source="ibm2020-onephase, grids at powers of two, rounded at the arithmetic midpoint",
        ),
        Recipe(
            "ibm2020-learned-scale",
            dgrad=dataclasses.replace(EVEN, scale="learned"),
            wgrad=dataclasses.replace(ODD, scale="learned"),
            source="ibm2020-onephase, its gradient scale kept as state (reconstructed)",
        ),
        Recipe(
            "ibm2020-plus",
            activation=Quantizer("uint4", "pact+"),
            source="ibm2020, clips that learn of rounding, too",
        ),
        Recipe("ibm2020-notpr", dgrad=EVEN, wgrad=EVEN, source="ablation: one phase for both gradients"),
        Recipe("int4-linear", dgrad=_LINEAR, wgrad=_LINEAR, source="ablation: linear INT4 gradients"),
        Recipe(
            "nvfp4",
            activation=_NVFP4,
            weight=Quantizer("e2m1", "nvfp4_2d"),
            dgrad=Quantizer("e2m1", "nvfp4", rounding="stochastic"),
            wgrad=Quantizer("e2m1", "nvfp4", rounding="stochastic", hadamard=16),
            wgrad_activation=Quantizer("e2m1", "nvfp4", hadamard=16),
            keep_last=0.15,
            source="NVIDIA, arXiv 2509.25149: E2M1, blocks of 16, E4M3 scales",
        ),
        Recipe(
            "mxfp4",
            activation=_MXFP4,
            weight=_MXFP4,
            dgrad=_MXFP4_DRAWN,
            wgrad=_MXFP4_DRAWN,
            dgrad_weight=_MXFP4_DRAWN,
            wgrad_activation=_MXFP4_DRAWN,
            source="OCP MX 1.0, arXiv 2502.20853: E2M1, blocks of 32, powers of two",
        ),
        Recipe(
            "uint4-hadamard",
            activation=_BLOCK16,
            weight=_BLOCK16,
            dgrad=_BLOCK16_DRAWN,
            wgrad=_BLOCK16_DRAWN,
            keep_last=0.15,
            source="arXiv 2606.20381: uniform grid, blocks of 16, Hadamard transform in all products",
        ),
        Recipe("luq", activation=_CLIP, dgrad=_LUQ, wgrad=_LUQ, source="Chmiel et al., ICLR 2023"),
        Recipe(
            "luq-smp2", activation=_CLIP, dgrad=_LUQ, wgrad=_LUQ_2, source="luq, two draws averaged in wgrad"
        ),
    )
}


def find(name: str) -> Recipe:
    """The recipe called ``name``: a row of the table, or a TOML file (a path that ends in ``.toml``).

    Either may be followed by ``~TECHNIQUE``, several times: without that technique.

    Raises:
        RecipeError: There is none.
    """
    end = name.rfind(_TOML) + len(_TOML) if _TOML in name else len(name.partition(WITHOUT)[0])
    first, rest = name[:end], name[end:]
    if first.endswith(_TOML) and rest[:1] in ("", WITHOUT):
        recipe = toml.read(Path(first))
        known = RECIPES.get(recipe.name, recipe)
        if dataclasses.replace(recipe, source=known.source) != known:
            raise RecipeError(f"{first} is not the recipe {recipe.name!r}; give it a name of its own")
    elif first in RECIPES:
        recipe = RECIPES[first]
    elif first == AUTO:  # what may look at a model has resolved it
        with as_wrong_use():
            raise RecipeError(
                f"{AUTO} is chosen by the whole model, here a recipe is named: {', '.join(RECIPES)}"
            )
    else:
        wanted = first if rest[:1] in ("", WITHOUT) else name
        now = f" (it is called {_RENAMED[first]} now)" if first in _RENAMED else ""
        with as_wrong_use():
            raise RecipeError(f"no recipe {wanted!r}{now}; there are: {', '.join(RECIPES)}; or a file.toml")
    for technique in rest.split(WITHOUT)[1:]:
        recipe = recipe.without(technique)
    return recipe
