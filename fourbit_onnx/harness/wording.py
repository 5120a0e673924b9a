"""How the report writes numbers: units, signs, and verdicts in words."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from fourbit_onnx.harness.statistics import SEEDS

NONE = "–"
MINUS = "−"
VERDICTS = {  # verdict: its sign (never colour alone) and the class that colours it
    "within margin": ("✓", "good"),
    "worse than margin": ("✗", "bad"),
    "not decided": ("?", "open"),
    "baseline": ("=", "base"),
}
METRICS = {
    "accuracy": "test accuracy",
    "bits_per_character": "test bits per character",
    "loss": "test loss",
}


def signed(number: float, digits: int = 2) -> str:
    """``+0.12`` or ``−0.12``; ``0.00`` without a sign."""
    text = f"{abs(number):.{digits}f}"
    if not float(text):
        return text
    return ("+" if number > 0 else MINUS) + text


def plain(number: float, digits: int = 2) -> str:
    """``0.12`` or ``−0.12``."""
    return f"{number:.{digits}f}".replace("-", MINUS)


def significant(number: float | None, digits: int = 3) -> str:
    """So many significant digits, with a power of ten where that is shorter."""
    return NONE if number is None else f"{number:.{digits}g}".replace("-", MINUS)


def percent(share: float | None, digits: int = 1) -> str:
    """``12.3 %``; what is not 0 is never written as 0."""
    if share is None:
        return NONE
    least = 10.0**-digits
    if 0 < 100 * share < least / 2:
        return f"< {least:g} %"
    return f"{100 * share:.{digits}f} %"


def decibel(snr: float | None) -> str:
    """``12.3``; a dash where there is no noise."""
    return NONE if snr is None else plain(snr, 1)


def p_value(p: float | None) -> str:
    """Three digits, or that it is less."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """``12 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds is None:
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, one: str, many: str = "") -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def shortened(text: str, length: int) -> str:
    """At most ``length`` letters; the end of a layer's name says more than its start."""
    return text if len(text) <= length else f"{text[: length // 3]}…{text[-(length - length // 3 - 1) :]}"


def kernels(instruction_sets: Sequence[str]) -> str:
    """What computed the 4-bit operators of the runs: values of `library.isa`."""
    bodies = "function bodies on ONNX Runtime, without the native library (the same bits, slower)"
    return "; ".join(bodies if isa == "none" else f"native library, {isa}" for isa in instruction_sets)


@dataclasses.dataclass(frozen=True)
class Units:
    """How values and differences of a task's metric are written.

    Attributes:
        metric: ``accuracy``, ``bits_per_character`` or ``loss``.
        relative: Whether differences are shares of the baseline's value.
        margin: How much worse than the baseline is no loss, 0 or more.
    """

    metric: str
    relative: bool
    margin: float

    @property
    def name(self) -> str:
        """What the metric is called."""
        return METRICS.get(self.metric, self.metric)

    @property
    def higher_is_better(self) -> bool:
        """The direction of the metric."""
        return self.metric == "accuracy"

    @property
    def unit(self) -> str:
        """Of a difference."""
        return "%" if self.relative else "points"

    @property
    def bound(self) -> float:
        """The margin as a difference: negative where less is worse."""
        return -self.margin if self.higher_is_better else self.margin

    def value(self, number: float | None) -> str:
        """A value of the metric."""
        if number is None:
            return NONE
        return f"{100 * number:.2f} %" if self.metric == "accuracy" else plain(number, 4)

    def spread(self, number: float | None) -> str:
        """A standard deviation of the metric, in points for accuracy."""
        if number is None:
            return NONE
        return f"{100 * number:.2f}" if self.metric == "accuracy" else f"{number:.4f}"

    def difference(self, number: float | None, *, unit: bool = True) -> str:
        """A difference, with its sign."""
        if number is None:
            return NONE
        return signed(100 * number) + (f" {self.unit}" if unit else "")

    def interval(self, difference: Mapping[str, Any] | None) -> str:
        """``−0.20 to +0.10``; or that it is not known."""
        if difference is None or difference["mean"] is None:
            return NONE
        if difference["low"] is None:
            return "not known"
        low, high = (self.difference(difference[end], unit=False) for end in ("low", "high"))
        return f"{low} to {high}"

    def margin_text(self) -> str:
        """``0.50 points`` or ``2.00 %``."""
        return f"{100 * self.margin:.2f} {self.unit}"


def equal(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Recipes whose differences are all equal, so that the interval is not known."""
    return [
        row["name"]
        for row in rows
        if row["difference"] and row["difference"]["low"] is None and row["difference"]["n"] > 1
    ]


def few(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a recipe has an interval, but too few seeds for a verdict."""
    return any(
        row["difference"] and row["difference"]["low"] is not None and row["difference"]["n"] < SEEDS
        for row in rows
    )
