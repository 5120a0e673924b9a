"""Differences of recipes, paired by seed, and what may be concluded from them.

Two runs with the same seed have the same first weights and the same order of the data, so what these do to
the result cancels in their difference. The differences of n seeds are taken as independent and normal:
their mean is within t(n - 1) * s / sqrt(n) of the true one with the given confidence, where s is their
standard deviation (with n - 1) and t the quantile of Student's distribution.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fourbit_onnx.errors import FourbitError, not_installed

CONFIDENCE = 0.95
BASELINE, WITHIN, WORSE, OPEN = "baseline", "within margin", "worse than margin", "not decided"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean difference and its confidence interval.

    Attributes:
        mean: Mean over the pairs.
        low: Lower end of the interval; None with fewer than two pairs.
        high: Upper end.
        n: Pairs.
        confidence: Of the interval.
        p: Of the two-sided paired t test; None with fewer than two pairs, or if all differences are equal.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = CONFIDENCE
    p: float | None = None


def require() -> Any:
    """``scipy.stats``.

    Raises:
        FourbitError: SciPy is not installed.
    """
    try:
        import scipy.stats
    except ImportError as error:
        raise FourbitError(not_installed("scipy", "check")) from error
    return scipy.stats


def paired(
    runs: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    relative: bool,
    confidence: float = CONFIDENCE,
) -> Difference | None:
    """``runs`` - ``baseline`` over the seeds that both have; as a share of ``baseline`` if ``relative``.

    Returns:
        None if they share no seed, or a share cannot be taken because a baseline is not positive.
    """
    seeds = sorted(runs.keys() & baseline.keys())
    if not seeds or (relative and min(baseline[seed] for seed in seeds) <= 0):
        return None
    return interval(
        [(runs[seed] - baseline[seed]) / (baseline[seed] if relative else 1.0) for seed in seeds],
        confidence,
    )


def interval(differences: Sequence[float], confidence: float = CONFIDENCE) -> Difference:
    """Student's interval for the mean of ``differences``, at least one, and the p-value of mean 0."""
    n = len(differences)
    mean = math.fsum(differences) / n
    if n == 1:
        return Difference(mean, None, None, 1, confidence)
    deviation = spread(differences)
    error = deviation / math.sqrt(n)
    t = require().t
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * error
    p = 2 * float(t.sf(abs(mean) / error, n - 1)) if error else None
    return Difference(mean, mean - half, mean + half, n, confidence, p)


def spread(values: Sequence[float]) -> float:
    """The standard deviation with n - 1; 0 if all are equal, whatever their mean rounds to."""
    if min(values) == max(values):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def verdict(difference: Difference | None, margin: float, *, higher_is_better: bool) -> str:
    """What the interval says about a loss of at most ``margin``.

    ==========================================  =====================
    the interval of the loss                    verdict
    ==========================================  =====================
    at or below the margin as a whole           ``within margin``
    above the margin as a whole                 ``worse than margin``
    on both sides; or there is no interval      ``not decided``
    ==========================================  =====================
    """
    if difference is None or difference.low is None or difference.high is None:
        return OPEN
    least, most = difference.low, difference.high
    if higher_is_better:
        least, most = -most, -least
    if most <= margin:
        return WITHIN
    return WORSE if least > margin else OPEN


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number (Holm 1979): below a level, all that remain hold at once.

    The k-th smallest of m is multiplied by m - k + 1, and none is less than one before it; at most 1.
    """
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    adjusted: list[float | None] = [None] * len(values)
    least = 0.0
    for k, (value, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - k) * value))
        adjusted[place] = least
    return adjusted
