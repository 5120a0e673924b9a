"""A recipe: which format, scale rule and rounding each of the six quantisation points gets."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from fourbit_onnx.errors import RecipeError

FORMATS = ("int4", "int4_full", "uint4", "log4", "log2", "e2m1")
# Scale rule to the elements of a block along the axis that a product sums.
BLOCKS = {"nvfp4": 16, "nvfp4_2d": 16, "mxfp4": 32, "block16": 16}
TRAINED_CLIPS = ("pact", "pact+")
CLIPS = (*TRAINED_CLIPS, "clip")
SCALES = (*CLIPS, "sawb", "absmax", "minmax", "gradient", "learned", "shared", "underflow", *BLOCKS)
# It names a folder of `fourbit check`, too.
_NAME = re.compile(r"[A-Za-z0-9_~+-][A-Za-z0-9._~+-]{0,99}")
PHASES = ("even", "odd", "both")
ROUNDINGS = ("nearest", "stochastic")

# Format to the scale rules that know its codes.
_FITTING = {
    "int4": (*CLIPS, "sawb", "absmax", "block16"),
    "int4_full": ("minmax",),
    "uint4": CLIPS,
    "log4": ("gradient", "learned", "shared"),
    "log2": ("underflow",),
    "e2m1": ("nvfp4", "nvfp4_2d", "mxfp4"),
}
# Only activations have a clip; gradients have no zero point (the products leave it out).
_GRADIENT = ("gradient", "learned", "shared", "underflow", "absmax", "sawb", *BLOCKS)
_OPERAND = ("sawb", "absmax", "minmax", *BLOCKS)
_POINTS = {
    "activation": (*CLIPS, *_OPERAND),
    "weight": _OPERAND,
    "dgrad": _GRADIENT,
    "wgrad": _GRADIENT,
    "dgrad_weight": _OPERAND,
    "wgrad_activation": _OPERAND,
}
# Rules that draw: what a saturating clip, a zero point or SAWB would bias is not among them.
_STOCHASTIC = ("gradient", "learned", "shared", "underflow", "absmax", *BLOCKS)
# The quantisers of a recipe by field, and the scale rules that each may have: those of _POINTS.
QUANTIZERS = tuple(_POINTS)
ARITHMETICS = ("4-bit", "fp16", "fp32")


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """How a float operand becomes codes.

    Attributes:
        format: A row of the format table; with a clip, ``uint4`` where the operand is known to be
            non-negative, ``int4`` elsewhere, whichever of the two is given.
        scale: ``pact`` (clip, trained by what it clips), ``pact+`` (by what is rounded, too), ``clip``
            (calibrated, not trained), ``sawb`` (from the weight's statistics), ``absmax``, ``minmax`` (with
            zero point), ``gradient`` (power of two from this tensor), ``learned`` (the same, state of the
            layer), ``shared`` (the same, one state for the whole model), ``underflow`` (max|x| is the top
            level of ``log2``); one scale a block: ``nvfp4`` (16 elements), ``nvfp4_2d`` (16 x 16), ``mxfp4``
            (32), ``block16`` (16).
        phase: ``log4`` only: 0 even, 1 odd; 2 both, of which the product has the mean.
        threshold: ``log4`` rounded to nearest only: where to round up, above the lower level; gradients up
            to ``threshold`` times the top level are covered.
        rounding: ``nearest``, or ``stochastic``: up with the probability that makes it unbiased.
        samples: Independent stochastic draws whose products are averaged: 1, or 2 (SMP-2).
        hadamard: 0, or 16: size of the block Hadamard transform along the reduction dimension before the
            operand is quantised; with scales a block only.
        dither: ``log4`` rounded to nearest only: in each step the grid begins at another place, at random.
    """

    format: str
    scale: str
    phase: int = 0
    threshold: float = 2.5
    rounding: str = "nearest"
    samples: int = 1
    hadamard: int = 0
    dither: bool = False

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise RecipeError(f"no format {self.format!r}; there are: {', '.join(FORMATS)}")
        if self.scale not in SCALES:
            raise RecipeError(f"no scale rule {self.scale!r}; {self._fitting()}")
        if self.phase not in (0, 1, 2):
            raise RecipeError(f"phase is 0 (even), 1 (odd) or 2 (both), not {self.phase!r}")
        if not 1 <= self.threshold <= 4:
            raise RecipeError(f"threshold is from 1 to 4, the next level, not {self.threshold!r}")
        if self.rounding not in ROUNDINGS:
            raise RecipeError(f"no rounding {self.rounding!r}; there are: {', '.join(ROUNDINGS)}")
        if self.samples not in (1, 2):
            raise RecipeError(f"samples is 1 or 2, not {self.samples!r}")
        if self.hadamard not in (0, 16):
            raise RecipeError(f"hadamard is 0 (none) or 16, not {self.hadamard!r}")
        if self.scale not in _FITTING[self.format]:
            raise RecipeError(
                f"format {self.format!r} does not go with scale rule {self.scale!r}; {self._fitting()}"
            )
        if self.phase and self.format != "log4":
            raise RecipeError(f"only format 'log4' has the phase {PHASES[self.phase]!r}, not {self.format!r}")
        if self.both_phases and self.stochastic:
            raise RecipeError("both phases are rounded to nearest; with stochastic rounding, use samples = 2")
        if self.threshold != 2.5 and (self.format != "log4" or self.stochastic):
            raise RecipeError("only format 'log4' rounded to nearest has a threshold")
        if self.stochastic and self.scale not in _STOCHASTIC:
            raise RecipeError(
                f"scale rule {self.scale!r} does not round stochastically; those that do: "
                f"{', '.join(_STOCHASTIC)}"
            )
        if self.dither and (self.format != "log4" or self.stochastic):
            raise RecipeError("only format 'log4' rounded to nearest has a dithered scale")
        if self.samples > 1 and not self.stochastic:
            raise RecipeError("two samples of a quantiser that rounds to nearest are the same; use 1")
        if self.samples > 1 and self.blocked:
            raise RecipeError(f"two samples need one scale a tensor; {self.scale!r} has one a block")
        if self.hadamard and not self.blocked:
            raise RecipeError(f"hadamard needs a scale a block ({', '.join(BLOCKS)}), not {self.scale!r}")

    def _fitting(self) -> str:
        return f"format {self.format!r} goes with: {', '.join(_FITTING[self.format])}"

    @property
    def stochastic(self) -> bool:
        """Whether it needs random numbers."""
        return self.rounding == "stochastic"

    @property
    def both_phases(self) -> bool:
        """Whether it gives codes on two grids, whose mean the product has."""
        return PHASES[self.phase] == "both"

    @property
    def mask_bits(self) -> int:
        """Bits that are kept of an element besides its code: where it was clipped, and how it was rounded."""
        return (self.scale in CLIPS) + (self.scale == "pact+")

    @property
    def blocked(self) -> bool:
        """Whether it has a scale for each block of elements."""
        return self.scale in BLOCKS

    def resolved(self, *, nonnegative: bool) -> "Quantizer":
        """What it is for one operand.

        Args:
            nonnegative: Whether the operand is known to have no negative element: ``uint4`` for clips.
        """
        if self.scale not in CLIPS:
            return self
        return dataclasses.replace(self, format="uint4" if nonnegative else "int4")

    def text(self) -> str:
        """How a plan writes it: ``log4 odd gradient``, ``e2m1 nvfp4 stochastic hadamard=16``."""
        words = [self.format, *([PHASES[self.phase]] if self.format == "log4" else []), self.scale]
        words += [] if self.threshold == 2.5 else [repr(self.threshold)]
        words += ["stochastic"] if self.stochastic else []
        words += [f"samples={self.samples}"] if self.samples > 1 else []
        words += [f"hadamard={self.hadamard}"] if self.hadamard else []
        words += ["dither"] if self.dither else []
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> "Quantizer":
        """The quantiser that a plan wrote as ``text``.

        Raises:
            RecipeError: It is none.
        """
        words = text.split()
        given: dict[str, Any] = {}
        try:
            format = words.pop(0)
            if words[0] in PHASES:
                given["phase"] = PHASES.index(words.pop(0))
            scale = words.pop(0)
            for word in words:
                key, _, value = word.partition("=")
                if key in ("samples", "hadamard"):
                    given[key] = int(value)
                elif key == "stochastic":
                    given["rounding"] = key
                elif key == "dither":
                    given["dither"] = True
                else:
                    given["threshold"] = float(word)
            found = cls(format, scale, **given)
        except (IndexError, ValueError) as error:
            raise RecipeError(f"{text!r} is no quantiser, such as 'log4 odd gradient'") from error
        if found.text() != text:
            raise RecipeError(f"{text!r} is not how a quantiser is written; {found.text()!r} is")
        return found


UNBIASED = 2.1640425613334453  # formats.log4.UNBIASED, for which a table of recipes need not load NumPy
EVEN = Quantizer("log4", "gradient", phase=0, threshold=UNBIASED, dither=True)
ODD = dataclasses.replace(EVEN, phase=1)
BOTH = dataclasses.replace(EVEN, phase=2)


def patterns(what: str, given: Sequence[str]) -> tuple[str, ...]:
    """``given`` as a tuple: a text alone would be a pattern a letter, and ``*`` fits every name.

    Args:
        what: What they are for, to begin the message with.
        given: Patterns of names.

    Raises:
        RecipeError: It is a text, or not of texts.
    """
    if isinstance(given, str) or not all(isinstance(pattern, str) for pattern in given):
        raise RecipeError(f"{what} is a list of patterns, such as ['layer1*'], not {given!r}")
    return tuple(given)


def readable(text: str) -> str:
    """A `Quantizer.text` for people: the threshold that is a formula, as the formula."""
    return text.replace(repr(UNBIASED), "3/ln(4)")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The table of one way to train.

    Attributes:
        name: What users call it.
        arithmetic: ``4-bit``; or ``fp16`` or ``fp32`` for the references, which have no quantisers.
        activation: For ``fwd.x``, and for ``fwd.w`` where that is no weight (attention).
        weight: For ``fwd.w``.
        dgrad: For ``dgrad.dy``; without, as in ``ibm2020``, and so is all else that has a default.
        wgrad: For ``wgrad.dy``.
        dgrad_weight: For ``dgrad.w``; None re-uses the codes of ``fwd.w``.
        wgrad_activation: For ``wgrad.x``; None re-uses the codes of ``fwd.x``.
        keep_ends: The first and the last site stay in float32; the first not where the model begins with an
            embedding, which is its first layer.
        keep: Patterns of node or weight names whose sites stay in float32, where there are any.
        keep_last: Share of the sites, the last ones, that stay in float32: 0 to 1, rounded up.
        source: Where the recipe comes from.
    """

    name: str
    arithmetic: str = "4-bit"
    activation: Quantizer = Quantizer("uint4", "pact")
    weight: Quantizer = Quantizer("int4", "sawb")
    dgrad: Quantizer = BOTH
    wgrad: Quantizer = BOTH
    dgrad_weight: Quantizer | None = None
    wgrad_activation: Quantizer | None = None
    keep_ends: bool = True
    keep: tuple[str, ...] = ()
    keep_last: float = 0.0
    source: str = "user"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"a recipe cannot be called {self.name!r}; up to 100 letters, digits and ._~+- will do, "
                "no . first"
            )
        if self.arithmetic not in ARITHMETICS:
            raise RecipeError(f"no arithmetic {self.arithmetic!r}; there are: {', '.join(ARITHMETICS)}")
        object.__setattr__(self, "keep", patterns(f"recipe {self.name!r}: keep", self.keep))
        if not isinstance(self.keep_last, (int, float)) or not 0 <= self.keep_last < 1:
            raise RecipeError(
                f"recipe {self.name!r}: keep_last is from 0 to less than 1, not {self.keep_last!r}"
            )
        for point, scales in _POINTS.items():
            quantizer = getattr(self, point)
            if quantizer is None and point in ("dgrad_weight", "wgrad_activation"):
                continue
            if not isinstance(quantizer, Quantizer):
                raise RecipeError(
                    f"recipe {self.name!r}: {point} is a Quantizer, such as Quantizer('int4', 'sawb'), not "
                    f"{quantizer!r}"
                )
            if quantizer.scale not in scales:
                raise RecipeError(
                    f"recipe {self.name!r}: {point} cannot have the scale rule {quantizer.scale!r}; "
                    f"there are: {', '.join(scales)}"
                )
            if quantizer.samples > 1 and point not in ("dgrad", "wgrad"):
                raise RecipeError(
                    f"recipe {self.name!r}: only dgrad and wgrad can have two samples, not {point}"
                )
            if quantizer.stochastic and point in ("activation", "weight"):
                raise RecipeError(
                    f"recipe {self.name!r}: {point} cannot round stochastically, because evaluation has no "
                    "random numbers; use rounding 'nearest'"
                )
        for left, right in (
            ("activation", "weight"),
            ("dgrad", "dgrad_weight" if self.dgrad_weight else "weight"),
            ("wgrad", "wgrad_activation" if self.wgrad_activation else "activation"),
        ):
            a, b = getattr(self, left), getattr(self, right)
            if BLOCKS.get(a.scale) != BLOCKS.get(b.scale) or a.hadamard != b.hadamard:
                raise RecipeError(
                    f"recipe {self.name!r}: {left} ({a.text()}) and {right} ({b.text()}) meet in one "
                    "product; both or neither need a scale a block, of one size, and the same hadamard"
                )

    def without(self, technique: str) -> "Recipe":
        """This recipe with one technique switched off: a key of ``techniques.TECHNIQUES``.

        Raises:
            RecipeError: There is no such technique, or the recipe does not have it.
        """
        from fourbit_onnx.recipes.techniques import without  # which needs recipes

        return without(self, technique)
