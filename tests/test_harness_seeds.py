"""Which runs a check begins, and when: recipe by recipe, seed by seed, within its time."""

import dataclasses
import json
import time

import pytest
from harness_runs import InProcess, jobs, tiny

from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.harness import run
from fourbit_onnx.harness.check import Check
from fourbit_onnx.harness.workers import Event

pytestmark = pytest.mark.usefixtures("in_process")


def test_all_recipes_of_a_seed_come_first_the_baseline_before_them(tmp_path):
    report = Check(tiny(epochs=1), ["ibm2020", "minmax"], 2, tmp_path / "x").run()
    assert jobs() == [(name, seed) for seed in (0, 1) for name in ("fp16", "ibm2020", "minmax")]
    assert [row["name"] for row in report["recipes"]] == ["fp16", "ibm2020", "minmax"]
    assert [(run["recipe"], run["seed"]) for run in report["runs"]] == jobs()
    assert json.loads((tmp_path / "x" / "report.json").read_text()) == report


def test_progress_is_that_of_the_steps_and_of_whole_epochs(tmp_path):
    """Of two epochs the first is a half when it ends, and the check knows how much is left."""
    shown = []

    class Recorder:
        def __getattr__(self, name):
            return lambda *arguments: shown.append((name, *arguments))

    check, job = Check(tiny(), [], 1, tmp_path / "x", display=Recorder()), ("fp16", 0)
    for kind, fields in (
        ("step", {"epoch": 0, "share": 0.25}),
        ("epoch", {"epoch": 0}),
        ("epoch", {"epoch": 1}),
    ):
        check._hear(Event(job, kind, fields))
    assert shown == [("moved", job, 0, 0.25), ("moved", job, 0, 0.5), ("moved", job, 1, 1.0)]


def test_first_seed_is_observed(tmp_path):
    for observe, expected in (("first", [True, False]), ("all", [True, True]), ("none", [False, False])):
        Check(tiny(epochs=1), [], 2, tmp_path / observe, observe=observe).run()
        assert [watched for _, watched in InProcess.last.started] == expected


def test_seeds_begin_where_they_are_told_to(tmp_path):
    """The first of them is watched, and its models stay; a folder with other seeds is another check's."""
    experiment = dataclasses.replace(tiny(epochs=1), first_seed=7)
    report = Check(experiment, ["ibm2020"], 2, tmp_path / "x").run()
    assert InProcess.last.started == [
        (("fp16", 7), True), (("ibm2020", 7), True), (("fp16", 8), False), (("ibm2020", 8), False),
    ]  # fmt: skip
    assert report["seeds"] == {"first": 7, "asked": 2, "complete": 2}
    assert not report["partial"]
    assert {run["seed"] for run in report["runs"]} == {7, 8}
    assert (tmp_path / "x" / "trained" / "ibm2020").is_dir()
    alone = Check(dataclasses.replace(experiment, first_seed=8), ["ibm2020"], 1, tmp_path / "y").run()
    assert [run["metric"] for run in alone["runs"]] == [run["metric"] for run in report["runs"][2:]]
    with pytest.raises(ArtifactError, match="holds a check with first_seed 7, this one has 0"):
        Check(tiny(epochs=1), ["ibm2020"], 2, tmp_path / "x").run()


def test_no_seed_is_begun_that_would_end_too_late(tmp_path, monkeypatch):
    """Each run takes 10 s on a clock of ours; 2 runs a seed, one at a time: seeds 0 and 1 end at 40 s."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    real = run.run

    def slow(*arguments, **options):
        now[0] += 10
        return real(*arguments, **options)

    monkeypatch.setattr(run, "run", slow)
    report = Check(tiny(epochs=1), ["ibm2020"], 9, tmp_path / "x", jobs=1, budget=45).run()
    assert jobs() == [(name, seed) for seed in (0, 1) for name in ("fp16", "ibm2020")]
    assert (report["partial"], report["seeds"]) == (True, {"first": 0, "asked": 9, "complete": 2})
    report = Check(tiny(epochs=1), ["ibm2020"], 9, tmp_path / "x", jobs=1, budget=0.001).run()
    assert report["seeds"]["complete"] == 3  # one more: the first of a call always runs
