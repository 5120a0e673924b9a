"""``report.json``: what the finished runs of a check say."""

import datetime
import itertools
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourbit_onnx.harness import statistics
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.harness.lineup import BASELINE
from fourbit_onnx.harness.statistics import Difference

VERSION = 1
PAIRS_NOTE = (
    "Each interval is that of one comparison. p is how probable so large a difference would be if the two "
    "recipes were equally good (two-sided paired t test). Of many pairs, some have a small p by chance; "
    "p_holm is p made larger for the number of pairs (Holm's method). Pairs whose p_holm is below 0.05 can "
    "be called different, all of them together with a risk of 5 % at most that one is not."
)


def report(
    experiment: Experiment,
    runs: Sequence[Mapping[str, Any]],
    recipes: Mapping[str, str],
    *,
    seeds: Sequence[int],
    command: str,
    digests: Mapping[str, str],
    auto: str = "",
    sensitivity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that was found, as JSON values.

    Args:
        experiment: What the runs have in common.
        runs: The runs, failed ones too.
        recipes: Name to source, the baseline among them, in the order of the table.
        seeds: Those that were asked for.
        command: What was asked for.
        digests: SHA-256 of the data.
        auto: What ``auto`` took, and why; "" if it was not asked for.
        sensitivity: What `sensitivity` found.
    """
    task = experiment.task
    values: dict[str, dict[int, float]] = {name: {} for name in recipes}
    for run in runs:
        if run["error"] is None and run["metric"] is not None:
            values[run["recipe"]][run["seed"]] = run["metric"]
    complete = [seed for seed in seeds if _all_ran(runs, recipes, seed)]
    rows = [_row(experiment, name, source, runs, values) for name, source in recipes.items()]
    _mark_best(rows, higher_is_better=task.higher_is_better)
    samples: dict[str, int] = next((run["samples"] for run in runs if "samples" in run), {})
    return {
        "version": VERSION,
        "task": experiment.to_json()["task"],
        "baseline": BASELINE,
        "command": command,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "kernels": sorted({run["kernels"] for run in runs if "kernels" in run}),
        "versions": versions(),
        "commit": commit(),
        "data": {"samples": samples, "sha256": digests["data"]},
        "seeds": {"first": seeds[0], "asked": len(seeds), "complete": len(complete)},
        "recipes": rows,
        "auto": auto or None,
        "pairs": _pairs(runs, values, relative=task.relative),
        "pairs_note": PAIRS_NOTE,
        "notes": [*([f"{auto}."] if auto else []), *_notes(experiment)],
        "runs": list(runs),
        "sensitivity": sensitivity,
        "partial": len(complete) < len(seeds),
    }


def _all_ran(runs: Sequence[Mapping[str, Any]], recipes: Mapping[str, str], seed: int) -> bool:
    return {run["recipe"] for run in runs if run["seed"] == seed} >= set(recipes)


def _row(
    experiment: Experiment,
    name: str,
    source: str,
    runs: Sequence[Mapping[str, Any]],
    values: Mapping[str, Mapping[int, float]],
) -> dict[str, Any]:
    task, own = experiment.task, [run for run in runs if run["recipe"] == name]
    found = list(values[name].values())
    difference = None
    verdict = statistics.BASELINE
    if name != BASELINE:
        difference = _difference(name, BASELINE, runs, values, relative=task.relative)
        verdict = statistics.verdict(difference, task.margin, higher_is_better=task.higher_is_better)
        failed = {run["recipe"] for run in runs if run["error"] is not None}
        if verdict == statistics.WITHIN and failed & {name, BASELINE}:
            verdict = statistics.OPEN  # the runs that are left are no fair sample
    return {
        "name": name,
        "source": source,
        "runs": len(found),
        "failed": sum(run["error"] is not None for run in own),
        "mean": sum(found) / len(found) if found else None,
        "std": statistics.spread(found) if len(found) > 1 else None,
        "difference": _fields(difference),
        "not_compared": None
        if difference or name == BASELINE
        else statistics.not_paired(values[name], values[BASELINE]),
        "relative": task.relative,
        "verdict": verdict,
        "four_bit_share": next((run["four_bit_share"] for run in own if "four_bit_share" in run), None),
        "seconds": _seconds(own),
        "best": False,
    }


def _seconds(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean of those that ended well, for failed ones ended early; of all if none did."""
    lengths = [run["seconds"] for run in runs if run["error"] is None] or [run["seconds"] for run in runs]
    return sum(lengths) / len(lengths) if lengths else None


def _mark_best(rows: Sequence[dict[str, Any]], *, higher_is_better: bool) -> None:
    """The recipe with 4-bit products and the best mean, none of whose runs failed; ties: the first."""
    known = [row for row in rows if row["mean"] is not None and row["four_bit_share"] and not row["failed"]]
    if known:
        sign = 1 if higher_is_better else -1
        max(known, key=lambda row: sign * row["mean"])["best"] = True


def _difference(
    a: str,
    b: str,
    runs: Sequence[Mapping[str, Any]],
    values: Mapping[str, Mapping[int, float]],
    *,
    relative: bool,
) -> Difference | None:
    """``a`` - ``b``, as a share of ``b`` if ``relative``; known to be 0 if all their losses are equal."""
    first, second = (
        {run["seed"]: run["epochs"] for run in runs if run["recipe"] == name and run["seed"] in values[name]}
        for name in (a, b)
    )
    identical = all(first[seed] == second[seed] != [] for seed in first.keys() & second.keys())
    return statistics.paired(values[a], values[b], relative=relative, identical=identical)


def _pairs(
    runs: Sequence[Mapping[str, Any]], values: Mapping[str, Mapping[int, float]], *, relative: bool
) -> list[dict[str, Any]]:
    """Every two recipes."""
    pairs = list(itertools.combinations(values, 2))
    found = [_difference(a, b, runs, values, relative=relative) for a, b in pairs]
    adjusted = statistics.holm([None if one is None else one.p for one in found])
    return [
        {
            "a": a,
            "b": b,
            **(_fields(one) or _none(statistics.not_paired(values[a], values[b]))),
            "p": None if one is None else one.p,
            "p_holm": p,
        }
        for (a, b), one, p in zip(pairs, found, adjusted, strict=True)
    ]


def _none(why: str) -> dict[str, Any]:
    return {"mean": None, "low": None, "high": None, "not_known": why, "n": 0}


def _fields(difference: Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    names = ("mean", "low", "high", "not_known", "n", "confidence")
    return {name: getattr(difference, name) for name in names}


def _notes(experiment: Experiment) -> list[str]:
    seeds = (
        "The seed decides the order of the data and the random numbers of the graph; the first weights are "
        "those of the file, for every seed."
        if experiment.yours
        else "The seed decides the first weights, the order of the data and the random numbers of the graph; "
        "training and test data are the same for every seed."
    )
    held_out = (
        ["No test data was given: a fifth of the samples, always the same ones, was held out for it."]
        if experiment.yours and experiment.evaluation is None
        else []
    )
    return [
        seeds,
        *held_out,
        "The metric is that of the last epoch, not of the best one.",
        "Runs of a seed share first weights and order of the data with the baseline; differences are paired.",
        "Seconds are those of one thread beside the other runs; fp16 rounds to FP16 and computes in FP32.",
    ]


def machine() -> dict[str, Any]:
    """Processor, how many of them, and the instruction set of the kernels."""
    import platform

    from fourbit_onnx.runtime import library
    from fourbit_onnx.runtime.session import available_processors

    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    return {"cpu": name, "processors": available_processors(), "isa": library.isa()}


def versions() -> dict[str, str]:
    """Package to version, of those installed."""
    import platform

    from fourbit_onnx.runtime import environment

    found = {name: version for name, version in environment.versions().items() if version}
    return {"python": platform.python_version(), **found}


def commit() -> str | None:
    """The commit of the checkout that runs, if it is one; with ``+`` if files differ from it."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found
