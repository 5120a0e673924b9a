"""Learning curves of a report: the mean over the seeds, each seed as a thin line."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fourbit_onnx.harness import charts, wording
from fourbit_onnx.harness.charts import Line, Picture

_BEGINNING = 0.2  # share of the epochs that need not fit into the chart of the accuracy


def curves(
    runs: Sequence[Mapping[str, Any]], recipes: Sequence[str], metric: str
) -> list[tuple[str, Picture]]:
    """(title, chart) of the test metric and the training loss; those that there is something for."""
    found = []
    for title, key, factor, unit in (
        _test(metric),
        ("Training loss", "loss", 1.0, "mean loss of the epoch"),
    ):
        series = _series(runs, recipes, key, factor)
        if series:
            found.append((title, _chart(series, recipes, title, unit, accuracy=key == "eval_accuracy")))
    return found


def _test(metric: str) -> tuple[str, str, float, str]:
    if metric == "accuracy":
        return "Test accuracy", "eval_accuracy", 100.0, "%"
    if metric == "bits_per_character":
        return "Test bits per character", "eval_loss", 1 / math.log(2), "bits per character"
    return "Test loss", "eval_loss", 1.0, "mean loss"


def _series(
    runs: Sequence[Mapping[str, Any]], recipes: Sequence[str], key: str, factor: float
) -> dict[str, dict[int, list[tuple[float, float]]]]:
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for run in runs:
        points = [
            (float(record["epoch"]) + 1, factor * record[key])
            for record in run.get("epochs") or ()
            if isinstance(record.get(key), (int, float)) and math.isfinite(record[key])
        ]
        if points and run["recipe"] in recipes:
            found.setdefault(run["recipe"], {})[int(run["seed"])] = points
    return found


def _chart(
    series: Mapping[str, Mapping[int, list[tuple[float, float]]]],
    recipes: Sequence[str],
    title: str,
    unit: str,
    *,
    accuracy: bool,
) -> Picture:
    thin, thick = [], []
    for number, recipe in enumerate(recipes):
        kind = f"c{number % 7} d{number % 4}"
        seeds = series.get(recipe, {})
        if len(seeds) > 1:
            thin += [
                Line(points, kind, thin=True, title=f"{recipe}, seed {seed}")
                for seed, points in seeds.items()
            ]
        epochs = sorted({x for points in seeds.values() for x, _ in points})
        mean = [
            (x, statistics.fmean(y for points in seeds.values() for at, y in points if at == x))
            for x in epochs
        ]
        if mean:
            thick.append(Line(mean, kind, recipe, title=f"{recipe}, mean"))
    everything = [point for line in [*thin, *thick] for point in line.points]
    last = max(x for x, _ in everything)
    settled = [y for x, y in everything if x > _BEGINNING * last]
    ys = [y for _, y in everything]
    log = not accuracy and min(ys) > 0 and max(ys) / min(ys) > 5
    note = ""
    low = None
    if accuracy and settled and min(ys) < min(settled) - 0.5 * (max(ys) - min(settled)):
        low, note = min(settled), "; the first epochs lie below"
    return charts.lines(
        [*thin, *thick],
        title=f"{title} over training, by recipe",
        x_title="epoch",
        y_title=unit + note + (", logarithmic" if log else ""),
        y_text=lambda y: wording.significant(y, 4),
        low=low,
        log=log,
    )
