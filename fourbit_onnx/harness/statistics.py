"""Differences of recipes, paired by seed, and what may be concluded from them.

Two runs with the same seed have the same first weights and the same order of the data, so what these do to
the result cancels in their difference. The differences of n seeds are taken as independent and normal:
their mean is within t(n - 1) * s / sqrt(n) of the true one with the given confidence, where s is their
standard deviation (with n - 1) and t the quantile of Student's distribution.

That says nothing where s is 0: normal numbers are never all equal, but accuracies on few test samples are.
Then the interval is not known. Nor do two seeds decide: their s is one difference of differences, too small
by a factor of 16 in one case of 20, or a near tie.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fourbit_onnx.errors import FourbitError, not_installed

CONFIDENCE = 0.95
SEEDS = 3  # the least that a verdict takes
# A graph's means are float32: relative error 2**-24 of each value, 2**-23 of a difference, 2**-22 of two.
ROUNDING = 2.0**-22
NO_SHARE = "the baseline's metric is not above 0 in every run, so no share of it can be taken"
BASELINE, WITHIN, WORSE, OPEN = "baseline", "within margin", "worse than margin", "not decided"


@dataclasses.dataclass(frozen=True)
class Difference:
    """A mean difference and its confidence interval.

    Attributes:
        mean: Mean over the pairs.
        low: Lower end of the interval; None, not known, with fewer than two pairs, or if all differences are
            equal though the runs are not.
        high: Upper end.
        n: Pairs.
        confidence: Of the interval.
        p: Of the two-sided paired t test; None where there is no interval.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = CONFIDENCE
    p: float | None = None

    @property
    def not_known(self) -> str | None:
        """Why there is no interval; None if there is one."""
        if self.low is not None:
            return None
        return "one seed" if self.n == 1 else "all differences are equal"


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
    identical: bool = False,
    confidence: float = CONFIDENCE,
) -> Difference | None:
    """``runs`` - ``baseline`` over the seeds that both have; as a share of ``baseline`` if ``relative``.

    Args:
        runs: Seed to metric.
        baseline: The same of the baseline.
        relative: Whether differences are shares.
        identical: Whether the runs are the same to the bit: then the difference is 0, and known to be.
        confidence: Of the interval.

    Returns:
        None if they share no seed, or a share cannot be taken because a baseline is not positive:
        `not_paired` says which.
    """
    seeds = sorted(runs.keys() & baseline.keys())
    if not seeds or (relative and min(baseline[seed] for seed in seeds) <= 0):
        return None
    if identical:
        return Difference(0.0, 0.0, 0.0, len(seeds), confidence, 1.0)
    units = {seed: baseline[seed] if relative else 1.0 for seed in seeds}
    largest = max(max(abs(runs[seed]), abs(baseline[seed])) / units[seed] for seed in seeds)
    return interval(
        [(runs[seed] - baseline[seed]) / units[seed] for seed in seeds],
        confidence,
        rounding=ROUNDING * largest,
    )


def not_paired(runs: Mapping[int, float], baseline: Mapping[int, float]) -> str:
    """Why `paired` finds no difference of the two."""
    if runs.keys() & baseline.keys():
        return NO_SHARE
    return "no run to compare"


def interval(
    differences: Sequence[float], confidence: float = CONFIDENCE, *, rounding: float = 0.0
) -> Difference:
    """Student's interval for the mean of ``differences``, at least one, and the p-value of mean 0.

    Args:
        differences: One a seed.
        confidence: Of the interval.
        rounding: Differences no further apart than this are equal, and then there is no interval.
    """
    n = len(differences)
    mean = math.fsum(differences) / n
    if max(differences) - min(differences) <= rounding:
        return Difference(mean, None, None, n, confidence)
    error = spread(differences) / math.sqrt(n)
    t = require().t
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * error
    p = 2 * float(t.sf(abs(mean) / error, n - 1))
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
    on both sides; not known; of two seeds      ``not decided``
    ==========================================  =====================
    """
    if difference is None or difference.low is None or difference.high is None or difference.n < SEEDS:
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
