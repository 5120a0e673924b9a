"""``report.html``: what a check found, as one page that needs nothing else."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.errors import FourbitError, not_installed
from fourbit_onnx.harness import charts, wording
from fourbit_onnx.harness.charts import Picture
from fourbit_onnx.harness.curves import curves
from fourbit_onnx.harness.inside import GRADIENTS, inside
from fourbit_onnx.harness.statistics import SEEDS
from fourbit_onnx.harness.wording import Units

TEMPLATE = "report.html.j2"
FOLD = 16  # tables with more rows are folded


def write(report: Mapping[str, Any], path: Path | str) -> None:
    """Write the page.

    Args:
        report: What ``report.json`` holds.
        path: The HTML file; it is replaced as a whole.

    Raises:
        ArtifactError: It cannot be written.
        FourbitError: jinja2 is not installed.
    """
    whole_file.write(Path(path), page(report))


def page(report: Mapping[str, Any]) -> str:
    """The page as text. All that the report holds is foreign text, and escaped.

    Raises:
        FourbitError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise FourbitError(not_installed("jinja2", "check")) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fourbit_onnx.harness", "page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["breakable"] = breakable
    task = report["task"]
    units = Units(task["metric"], _is_relative(report), float(task["margin"]))
    runs: Sequence[Mapping[str, Any]] = report.get("runs") or []
    recipes = [row["name"] for row in report["recipes"]]
    found = [seen for name in recipes if (seen := inside(runs, name)) is not None]
    return environment.get_template(TEMPLATE).render(
        report=report,
        task=task,
        units=units,
        say=wording,
        verdicts=wording.VERDICTS,
        summary=summary(report, units),
        seeds=sorted({int(run["seed"]) for run in runs}),
        by_run={(run["recipe"], int(run["seed"])): run for run in runs},
        failed=[run for run in runs if run.get("error")],
        equal=wording.equal(report["recipes"]),
        forest=_forest(report, units),
        curves=curves(runs, recipes, task["metric"]),
        colors={name: f"c{number % 7} d{number % 4}" for number, name in enumerate(recipes)},
        inside=found,
        gradients=GRADIENTS,
        sensitivity=report.get("sensitivity"),
        fold=FOLD,
    )


def breakable(name: str) -> Picture:
    """A name of a layer or recipe that may be broken into lines behind dots, slashes and tildes."""
    return Picture(re.sub(r"(?<=[./~])(?=[^./~])", "<wbr>", html.escape(name)))


def summary(report: Mapping[str, Any], units: Units) -> list[tuple[str, str, str]]:
    """For every recipe but the baseline: CSS class, sign, and one sentence with the verdict."""
    sentences = []
    for row in report["recipes"]:
        if row["verdict"] == "baseline":
            continue
        sign, kind = wording.VERDICTS.get(row["verdict"], ("", "open"))
        difference = row["difference"]
        if difference is None:
            text = row["not_compared"]
        elif difference["low"] is None:
            seeds = wording.count(difference["n"], "seed")
            same = f"the same with {seeds}" if difference["n"] > 1 else f"with {seeds}"
            text = f"{units.difference(difference['mean'])}, {same}, so the 95 % interval is not known"
        else:
            text = f"{units.difference(difference['mean'])}, 95 % interval {units.interval(difference)}"
            if difference["n"] < SEEDS:
                text += f" of {wording.count(difference['n'], 'seed')}; a verdict takes {SEEDS} or more"
        sentences.append((kind, sign, f"{row['name']}: {row['verdict']}; {text}."))
    return sentences


def _is_relative(report: Mapping[str, Any]) -> bool:
    rows = report["recipes"]
    return bool(rows[0]["relative"]) if rows else report["task"]["metric"] != "accuracy"


def _forest(report: Mapping[str, Any], units: Units) -> Picture:
    rows = []
    for row in report["recipes"]:
        difference = row["difference"]
        if difference is None:
            continue
        low, high = difference.get("low"), difference.get("high")
        figures = f"{units.difference(difference['mean'], unit=False)}  [{units.interval(difference)}]"
        kind = wording.VERDICTS.get(row["verdict"], ("", "open"))[1]
        rows.append((row["name"], figures, difference["mean"], low, high, kind))
    if not rows:
        return Picture("")
    return charts.forest(
        rows,
        bound=units.bound,
        bound_text="margin",
        unit=f"difference to {report['baseline']}, {units.unit}",
        title=f"Difference of each recipe to {report['baseline']} with its interval, against the margin",
        text=lambda x: wording.signed(100 * x, 1),
        lower_is_worse=units.higher_is_better,
    )
