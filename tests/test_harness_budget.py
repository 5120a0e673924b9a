"""Wall time: how it is written, and how long runs will take."""

import pytest
from harness_runs import tiny

from fourbit_onnx.errors import FourbitError
from fourbit_onnx.harness import budget
from fourbit_onnx.harness.check import Check
from fourbit_onnx.harness.workers import Event


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1.5m", 90)]
)
def test_times(text, expected):
    assert budget.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5m", "0s", "10d", "10m!", "1e3s"])
def test_no_times(text):
    with pytest.raises(FourbitError, match="is no time; write it as 90s, 10m or 1h30m"):
        budget.seconds(text)


def test_estimate():
    assert budget.estimate(["a", "b"], {"a": [2, 4]}, {"b": [(5.0, 0.5), (9.0, 0.75)]}) == {"a": 3, "b": 12}
    assert budget.estimate(["a", "b"], {"a": [2]}, {"b": [(1.0, 0.01)]}) is None
    assert budget.estimate(["a"], {}, {}) is None


def test_end():
    assert budget.end([], [], 2) == 0
    assert budget.end([4, 4, 4], [], 2) == 8
    assert budget.end([4, 4, 4], [1, 3], 2) == 9  # 1 + 4 + 4, and 3 + 4
    assert budget.end([5], [1, 9], 2) == 9


def test_a_resumed_run_is_as_long_as_all_its_parts(tmp_path, monkeypatch):
    """Three quarters were done when this call began, in 99 s on a slower day."""
    now = [1000.0]
    monkeypatch.setattr("fourbit_onnx.harness.check.time.monotonic", lambda: now[0])
    check = Check(tiny(), ["ibm2020"], 1, tmp_path / "x")
    job = ("fp16", 0)
    monkeypatch.setattr(check._workers, "start", lambda *_: None)
    check._start(job)
    check._hear(Event(job, "step", {"epoch": 1, "share": 0.75}))
    assert check._lengths() is None  # nothing is known of this call's speed
    now[0] += 12
    check._hear(Event(job, "step", {"epoch": 1, "share": 0.9}))
    check._sources.pop("ibm2020")
    assert check._lengths() == {"fp16": pytest.approx(80)}
    assert check._left([]) == pytest.approx(8)
    now[0] += 8
    done = {"recipe": "fp16", "seed": 0, "metric": 0.9, "error": None, "epochs": [], "seconds": 119.0}
    monkeypatch.setattr(check._folder, "finished", lambda *_: done)
    check._hear(Event(job, "done"))
    assert check._lengths() == {"fp16": 119}


def test_a_run_that_failed_says_nothing_of_the_length_of_others(tmp_path):
    check = Check(tiny(), ["ibm2020"], 3, tmp_path / "x")
    for seed, error, seconds in ((0, None, 100.0), (1, "the loss is nan", 1.0)):
        for name in ("fp16", "ibm2020"):
            check._runs[name, seed] = {"error": error, "seconds": seconds}
    assert check._lengths() == {"fp16": 100, "ibm2020": 100}
    check._runs["ibm2020", 0]["error"] = "the loss is nan"
    assert check._lengths() == {"fp16": 100, "ibm2020": 50.5}  # better than nothing
