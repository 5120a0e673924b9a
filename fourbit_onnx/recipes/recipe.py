"""A recipe: which format, scale rule and rounding each of the six quantisation points gets."""

import dataclasses

from fourbit_onnx.errors import RecipeError

FORMATS = ("int4", "int4_full", "uint4", "log4")
SCALES = ("pact", "sawb", "absmax", "minmax", "gradient", "learned")
PHASES = ("even", "odd")

# Format to the scale rules that know its codes.
_FITTING = {
    "int4": ("pact", "sawb", "absmax"),
    "int4_full": ("minmax",),
    "uint4": ("pact",),
    "log4": ("gradient", "learned"),
}
# Only activations have a trained clip; gradients have no zero point (the products leave it out).
_GRADIENT = ("gradient", "learned", "absmax", "sawb")
_POINTS = {
    "activation": ("pact", "sawb", "absmax", "minmax"),
    "weight": ("sawb", "absmax", "minmax"),
    "dgrad": _GRADIENT,
    "wgrad": _GRADIENT,
}
ARITHMETICS = ("4-bit", "fp16", "fp32")


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """How a float operand becomes codes.

    Attributes:
        format: A row of the format table; with ``pact``, ``uint4`` where the operand is known to be
            non-negative, ``int4`` elsewhere.
        scale: ``pact`` (trained clip), ``sawb`` (from the weight's statistics), ``absmax``, ``minmax``
            (with zero point), ``gradient`` (power of two from this tensor), ``learned`` (the same, state).
        phase: ``log4`` only: 0 even, 1 odd.
        threshold: ``log4`` only: gradients up to ``threshold`` times the top level are covered.
    """

    format: str
    scale: str
    phase: int = 0
    threshold: float = 2.5

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise RecipeError(f"no format {self.format!r}; there are: {', '.join(FORMATS)}")
        if self.scale not in SCALES:
            raise RecipeError(f"no scale rule {self.scale!r}; there are: {', '.join(SCALES)}")
        if self.phase not in (0, 1):
            raise RecipeError(f"phase is 0 (even) or 1 (odd), not {self.phase!r}")
        if not 1 <= self.threshold <= 4:
            raise RecipeError(f"threshold is from 1 to 4, the next level, not {self.threshold!r}")
        if self.scale not in _FITTING[self.format]:
            raise RecipeError(f"format {self.format!r} does not go with scale rule {self.scale!r}")

    def text(self, *, nonnegative: bool = False) -> str:
        """How a plan writes it: format, phase if it has one, scale rule, threshold if it is not 2.5.

        Args:
            nonnegative: Whether the operand is known to have no negative element, for PACT.
        """
        if self.scale == "pact":
            return f"{'uint4' if nonnegative else 'int4'} pact"
        words = [self.format, self.scale]
        if self.format == "log4":
            words.insert(1, PHASES[self.phase])
            words += [] if self.threshold == 2.5 else [repr(self.threshold)]
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> "Quantizer":
        """The quantiser that a plan wrote as ``text``."""
        words = text.split()
        if words[0] != "log4":
            return cls(words[0], words[1])
        threshold = float(words[3]) if len(words) > 3 else 2.5
        return cls(words[0], words[2], PHASES.index(words[1]), threshold)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The table of one way to train.

    ``dgrad.w`` and ``wgrad.x`` re-use the codes of the forward pass, so four quantisers say it all.

    Attributes:
        name: What users call it.
        arithmetic: ``4-bit``; or ``fp16`` or ``fp32`` for the references, which have no quantisers.
        activation: For ``fwd.x``, and for ``fwd.w`` where that is no weight (attention).
        weight: For ``fwd.w``.
        dgrad: For ``dgrad.dy``.
        wgrad: For ``wgrad.dy``.
        keep_ends: The first and the last site stay in float32.
        source: Where the recipe comes from.
    """

    name: str
    arithmetic: str = "4-bit"
    activation: Quantizer = Quantizer("uint4", "pact")
    weight: Quantizer = Quantizer("int4", "sawb")
    dgrad: Quantizer = Quantizer("log4", "gradient", phase=0)
    wgrad: Quantizer = Quantizer("log4", "gradient", phase=1)
    keep_ends: bool = True
    source: str = "user"

    def __post_init__(self) -> None:
        if self.arithmetic not in ARITHMETICS:
            raise RecipeError(f"no arithmetic {self.arithmetic!r}; there are: {', '.join(ARITHMETICS)}")
        for point, scales in _POINTS.items():
            if (scale := getattr(self, point).scale) not in scales:
                raise RecipeError(
                    f"recipe {self.name!r}: {point} cannot have the scale rule {scale!r}; "
                    f"there are: {', '.join(scales)}"
                )
