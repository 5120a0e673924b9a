"""Medians of times and of paired ratios, with their quartiles."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """A median and the middle half.

    Attributes:
        median: Of all values.
        low: First quartile.
        high: Third quartile.
    """

    median: float
    low: float
    high: float


def summary(values: Sequence[float]) -> Summary:
    """Of at least one value; quartiles are interpolated linearly between order statistics."""
    low, median, high = np.quantile(np.asarray(values, np.float64), [0.25, 0.5, 0.75])
    return Summary(float(median), float(low), float(high))


def speedup(baseline: Sequence[float], seconds: Sequence[float]) -> Summary:
    """How many times faster than ``baseline``, from the ratio of each round.

    In a round both ran one soon after the other. What slows the machine for a while slows both, so ratios
    of rounds spread less than times do.
    """
    return summary([slow / fast for slow, fast in zip(baseline, seconds, strict=True)])
