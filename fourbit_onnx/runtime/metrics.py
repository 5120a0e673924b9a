"""Means over samples of the numbers that a graph gives a batch, as sums that a checkpoint can hold."""

from collections.abc import Mapping

SAMPLES = "samples"
SKIPPED = "skipped"
HIGHER_IS_BETTER = ("accuracy",)


def added(totals: Mapping[str, float], numbers: Mapping[str, float], samples: int) -> dict[str, float]:
    """The sums with those of one more batch: each number times samples, and the samples."""
    sums = {name: totals.get(name, 0.0) + number * samples for name, number in numbers.items()}
    return {**totals, **sums, SAMPLES: totals.get(SAMPLES, 0) + samples}


def means(totals: Mapping[str, float]) -> dict[str, float]:
    """The mean of each number over the samples; empty if none was counted."""
    count = totals.get(SAMPLES, 0)
    return {name: total / count for name, total in totals.items() if name not in (SAMPLES, SKIPPED) and count}


def better(name: str, new: float, old: float) -> bool:
    """Whether ``new`` is the better value of the metric; NaN never is."""
    return new > old if name in HIGHER_IS_BETTER else new < old
