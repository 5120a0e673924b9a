"""Observations of a run, layer by layer, as the report shows them."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.harness import charts, wording
from fourbit_onnx.harness.charts import Line, Picture

POINTS = {
    "fwd.x": "Activations x",
    "fwd.w": "Weights w",
    "dgrad.dy": "Gradients dy, for dx",
    "dgrad.w": "Weights w, for dx",
    "wgrad.x": "Activations x, for dw",
    "wgrad.dy": "Gradients dy, for dw",
}
GRADIENTS = ("dgrad.dy", "wgrad.dy")
_SHARES = ("zeros", "underflow", "saturated")
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer at one quantisation point; a group of like steps is one.

    Attributes:
        site: Name.
        steps: Sites that are shown as this one; an observation may have merged them already.
        snr: Signal to noise in decibels, at the last observation.
        spark: The same over training.
        shares: ``zeros``, ``underflow``, ``saturated`` at the last observation.
        codes: How often each level occurs, as small bars.
    """

    site: str
    steps: int
    snr: float | None
    spark: Picture
    shares: Mapping[str, float]
    codes: Picture


@dataclasses.dataclass(frozen=True)
class Point:
    """One quantisation point over all layers.

    Attributes:
        name: ``fwd.x`` and so on.
        title: In words.
        rule: Format and scale rule, as the plan has them.
        rows: Layers, in the order of the model.
        chart: Signal to noise over training, all layers.
    """

    name: str
    title: str
    rule: str
    rows: Sequence[Row]
    chart: Picture


@dataclasses.dataclass(frozen=True)
class Inside:
    """What is seen in one run.

    Attributes:
        recipe: Its recipe.
        seed: Its seed.
        first: Epoch of the first observation, from 1.
        last: Epoch of the last.
        points: Quantisation points.
        histograms: Title to how often each level of the gradients occurs.
        clips: PACT clips over training; empty if there are none.
        clip_rows: Name, first and last value, small line.
    """

    recipe: str
    seed: int
    first: int
    last: int
    points: Sequence[Point]
    histograms: Mapping[str, Picture]
    clips: Picture
    clip_rows: Sequence[tuple[str, float, float, Picture]]

    @property
    def epochs(self) -> str:
        """``epochs 1 to 10``, or ``epoch 1``."""
        return f"epoch {self.first}" if self.first == self.last else f"epochs {self.first} to {self.last}"


def inside(runs: Sequence[Mapping[str, Any]], recipe: str) -> Inside | None:
    """The observations of the first seed of ``recipe`` that has any of 4-bit quantisers."""
    for run in sorted(runs, key=lambda run: int(run["seed"])):
        seen = [entry for entry in run.get("observations") or () if entry.get("quantizers")]
        if run["recipe"] == recipe and seen:
            return Inside(
                recipe=recipe,
                seed=int(run["seed"]),
                first=seen[0]["epoch"] + 1,
                last=seen[-1]["epoch"] + 1,
                points=[_point(seen, name) for name in POINTS if _of(seen[-1], name)],
                histograms=dict(_histograms(seen)),
                clips=_clips(seen),
                clip_rows=_clip_rows(seen),
            )
    return None


def _of(entry: Mapping[str, Any], point: str) -> dict[str, list[dict[str, Any]]]:
    """Site, or group of sites, to its quantisers at ``point``."""
    found: dict[str, list[dict[str, Any]]] = {}
    for quantizer in entry["quantizers"]:
        if quantizer["point"] == point:
            found.setdefault(quantizer.get("group") or quantizer["site"], []).append(quantizer)
    return found


def _mean_snr(quantizers: Sequence[Mapping[str, Any]]) -> float | None:
    known = [q["snr_db"] for q in quantizers if q["snr_db"] is not None]
    return statistics.fmean(known) if known else None


def _point(seen: Sequence[Mapping[str, Any]], name: str) -> Point:
    by_epoch = [(entry["epoch"] + 1, _of(entry, name)) for entry in seen]
    last = by_epoch[-1][1]
    series = {
        site: [(epoch, _mean_snr(found[site])) for epoch, found in by_epoch if site in found] for site in last
    }
    known = [snr for points in series.values() for _, snr in points if snr is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    rows = []
    for site, quantizers in last.items():
        points = [None if snr is None else (float(epoch), snr) for epoch, snr in series[site]]
        rows.append(
            Row(
                site,
                sum(q.get("steps", 1) for q in quantizers),
                series[site][-1][1],
                charts.spark(points, low, high),
                {share: statistics.fmean(q[share] for q in quantizers) for share in _SHARES},
                charts.spark_bars([share for _, share in levels(quantizers)]),
            )
        )
    rules = dict.fromkeys(f"{q['format']}, {q['scale_rule']}" for qs in last.values() for q in qs)
    return Point(name, POINTS[name], "; ".join(rules), rows, _snr_chart(series, name))


def _snr_chart(series: Mapping[str, Sequence[tuple[int, float | None]]], name: str) -> Picture:
    lines = [
        Line([(float(x), y) for x, y in points if y is not None], "quiet", title=site, thin=True)
        for site, points in series.items()
    ]
    lines = [line for line in lines if line.points]
    if not lines:
        return Picture("")
    common = _common([line.title for line in lines])
    epochs = sorted({x for line in lines for x, _ in line.points})
    middle = [(x, statistics.median(y for line in lines for at, y in line.points if at == x)) for x in epochs]
    worst = min(lines, key=lambda line: line.points[-1][1])
    if len(lines) > 2:
        lines.append(Line(middle, "c0", "median"))
    lines.append(dataclasses.replace(worst, kind="c1", label=worst.title[common:], thin=False))
    return charts.lines(
        lines,
        title=f"Signal-to-noise ratio of {POINTS[name]} over training, every layer",
        x_title="epoch",
        y_title="SNR, dB",
        y_text=lambda y: wording.significant(y, 4),
    )


def _common(names: Sequence[str]) -> int:
    """Length of the start, up to a dot or slash, that all ``names`` share."""
    if len(names) < 2:
        return 0
    low, high = min(names), max(names)  # what these two share, all between them share
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return max(low.rfind(mark, 0, same) for mark in "./") + 1


def levels(quantizers: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(integer value, share) of every level of the format, in order of the value."""
    row = FORMATS[quantizers[0]["format"]]
    counts = {value: 0 for value in sorted(set(row.values)) if row.min <= value <= row.max}
    for quantizer in quantizers:
        for value, count in zip(row.values, quantizer["codes"], strict=True):
            if value in counts:
                counts[value] += count
    total = sum(counts.values()) or 1
    return [(value, count / total) for value, count in counts.items()]


def _histograms(seen: Sequence[Mapping[str, Any]]) -> list[tuple[str, Picture]]:
    found = []
    for point in GRADIENTS:
        first, last = (
            [q for q in entry["quantizers"] if q["point"] == point] for entry in (seen[0], seen[-1])
        )
        if not last or len({q["format"] for q in [*first, *last]}) > 1:
            continue
        format = last[0]["format"]
        now = levels(last)
        before = [share for _, share in levels(first)] if len(seen) > 1 and first else None
        title = f"{POINTS[point]}: levels of {format}"
        chart = charts.bars(
            [share for _, share in now],
            [level_name(value, format) for value, _ in now],
            before,
            title=title,
            y_title="share of all elements, %",
        )
        found.append((title, chart))
    return found


def level_name(value: int, format: str) -> str:
    """``−4²`` for -16 of ``log4``; the number itself for grids."""
    base = {"log4": 4, "log2": 2}.get(format)
    sign = wording.MINUS if value < 0 else ""
    if format == "e2m1":  # its table is in halves
        return f"{sign}{abs(value) / 2:g}"
    if base is None or value == 0:
        return f"{sign}{abs(value)}"
    exponent = (abs(value).bit_length() - 1) // (base // 2)
    return f"{sign}{base}{str(exponent).translate(_SUPERSCRIPT)}"


def _clip_series(seen: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in seen:
        for name, value in (entry.get("clips") or {}).items():
            found.setdefault(name, []).append((float(entry["epoch"] + 1), value))
    return found


def _clips(seen: Sequence[Mapping[str, Any]]) -> Picture:
    series = _clip_series(seen)
    if not series:
        return Picture("")
    few = len(series) <= 8
    ordered = sorted(series.items(), key=lambda item: item[1][-1][1])
    named = {name for name, _ in ordered} if few else {ordered[0][0], ordered[-1][0]}
    common = _common(list(series))
    lines = [
        Line(
            points,
            "c0" if name in named else "quiet",
            name[common:].removesuffix(".clip") if name in named else "",
            thin=not few,
            title=name,
        )
        for name, points in ordered
    ]
    return charts.lines(
        lines,
        title="PACT clips over training",
        x_title="epoch",
        y_title="clip, in units of the activation",
        y_text=lambda y: wording.significant(y, 3),
    )


def _clip_rows(seen: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float, Picture]]:
    return [
        (
            name,
            points[0][1],
            points[-1][1],
            charts.spark(points, min(y for _, y in points), max(y for _, y in points)),
        )
        for name, points in _clip_series(seen).items()
    ]
