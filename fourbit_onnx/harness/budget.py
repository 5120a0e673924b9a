"""Wall time: how much is given, and what runs will take."""

import re
from collections.abc import Mapping, Sequence

from fourbit_onnx.errors import TrainingError

_UNITS = {"s": 1, "m": 60, "h": 3600}
_TEXT = re.compile(r"(?:\d+(?:\.\d+)?[smh])+")
SURE = 0.1  # share of a run that must be done before its length is guessed from it


def seconds(text: str) -> float:
    """``90s``, ``10m``, ``2h``, ``1h30m`` in seconds.

    Raises:
        TrainingError: It is none of these, or nothing.
    """
    if _TEXT.fullmatch(text):
        total = sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)([smh])", text))
        if total > 0:
            return total
    raise TrainingError(f"{text!r} is no time; write it as 90s, 10m or 1h30m")


def estimate(
    recipes: Sequence[str],
    done: Mapping[str, Sequence[float]],
    running: Mapping[str, Sequence[tuple[float, float]]],
) -> dict[str, float] | None:
    """Seconds of a run of each recipe: the mean of those done, else the most that one under way will take.

    Args:
        recipes: Names.
        done: Recipe to the seconds of its finished runs.
        running: Recipe to (seconds, share done) of its runs under way.

    Returns:
        None if nothing can be said yet of some recipe.
    """
    found = {}
    for recipe in recipes:
        lengths = [time / share for time, share in running.get(recipe, ()) if share >= SURE]
        if done.get(recipe):
            found[recipe] = sum(done[recipe]) / len(done[recipe])
        elif lengths:
            found[recipe] = max(lengths)
        else:
            return None
    return found


def end(waiting: Sequence[float], busy: Sequence[float], workers: int) -> float:
    """When the last run ends, from now, if each takes the first worker that is free, in this order.

    Args:
        waiting: Seconds of the runs that wait.
        busy: Seconds that the runs under way still take.
        workers: How many run at a time.
    """
    free = sorted([*busy, *[0.0] * (workers - len(busy))])
    last = max(busy, default=0.0)
    for length in waiting:
        free[0] += length
        last = max(last, free[0])
        free.sort()
    return last
