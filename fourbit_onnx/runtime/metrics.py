"""Means over samples of the numbers that a graph gives a batch, as sums that a checkpoint can hold."""

import math
from collections.abc import Mapping

SAMPLES = "samples"
SKIPPED = "skipped"
LOST = "lost"  # skipped steps in a row, up to now, whose loss itself was not finite
HIGHER_IS_BETTER = ("accuracy",)


def added(totals: Mapping[str, float], numbers: Mapping[str, float], samples: int) -> dict[str, float]:
    """The sums with those of one more batch: each number times samples, and the samples."""
    before = {name: total for name, total in totals.items() if name != LOST}
    sums = {name: before.get(name, 0.0) + number * samples for name, number in numbers.items()}
    return {**before, **sums, SAMPLES: before.get(SAMPLES, 0) + samples}


def skipped(totals: Mapping[str, float], loss: float) -> dict[str, float]:
    """The sums with one more step that was skipped at this loss."""
    lost = 0.0 if math.isfinite(loss) else totals.get(LOST, 0.0) + 1
    return {**totals, SKIPPED: totals.get(SKIPPED, 0.0) + 1, LOST: lost}


def means(totals: Mapping[str, float]) -> dict[str, float]:
    """The mean of each number over the samples; empty if none was counted."""
    count = totals.get(SAMPLES, 0)
    counts = (SAMPLES, SKIPPED, LOST)
    return {name: total / count for name, total in totals.items() if name not in counts and count}


def better(name: str, new: float, old: float) -> bool:
    """Whether ``new`` is the better value of the metric; NaN never is."""
    return new > old if name in HIGHER_IS_BETTER else new < old
