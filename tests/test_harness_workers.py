"""Runs in real processes: stopped, killed, continued; and the command around them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness_runs import opened, tiny

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.harness import run
from fourbit_onnx.harness.workers import Workers

FOURBIT = [sys.executable, "-c", "from fourbit_onnx.cli.main import main; main()"]


def until(condition, seconds=60):
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def heard(workers):
    """All that is said until no process is left."""
    events = []
    while len(workers):
        events += workers.events()
    return events


def result(folder, recipe, seed):
    found = json.loads((Path(folder) / "runs" / recipe / f"{seed}.json").read_text())
    return {name: value for name, value in found.items() if name != "seconds"}


@pytest.mark.slow
def test_a_worker_tells_what_it_does(tmp_path):
    workers = Workers(opened(tmp_path / "x", tiny()))
    workers.start(("ibm2020", 0), False)
    events = heard(workers)
    assert {event.job for event in events} == {("ibm2020", 0)}
    kinds = [event.kind for event in events]
    assert kinds.count("epoch") == 2
    assert kinds[-1] == "done"
    assert set(kinds) <= {"step", "epoch", "done"}
    shares = [event.fields["share"] for event in events if event.kind == "step"]
    assert shares == sorted(shares)
    assert all(0 < share <= 1 for share in shares)
    assert result(tmp_path / "x", "ibm2020", 0)["error"] is None


@pytest.mark.slow
def test_a_worker_saves_when_its_stdin_ends_and_goes_on_with_the_same_bits(tmp_path):
    """So it does when its parent was killed."""
    experiment = tiny(epochs=40)
    folder = opened(tmp_path / "x", experiment)
    workers = Workers(folder)
    workers.start(("ibm2020", 0), False)
    until(lambda: (folder.work("ibm2020", 0) / run.NOTES).exists())
    workers.stop()
    assert heard(workers)[-1].kind == "interrupted"
    progress = checkpoint.read(folder.work("ibm2020", 0) / "artifacts").progress
    assert 1 <= progress.epoch < 40
    assert not folder.run("ibm2020", 0).exists()
    workers.start(("ibm2020", 0), False)
    assert heard(workers)[-1].kind == "done"
    whole = Workers(opened(tmp_path / "whole", experiment))
    whole.start(("ibm2020", 0), False)
    heard(whole)
    assert result(tmp_path / "x", "ibm2020", 0) == result(tmp_path / "whole", "ibm2020", 0)


@pytest.mark.slow
def test_a_killed_worker_is_noticed(tmp_path):
    folder = opened(tmp_path / "x", tiny(epochs=1000))
    workers = Workers(folder)
    workers.start(("fp16", 0), False)
    until(lambda: (folder.work("fp16", 0) / run.NOTES).exists())
    workers.kill()
    last = heard(workers)[-1]
    assert (last.kind, last.fields) == ("died", {"code": -signal.SIGKILL})


@pytest.mark.slow
def test_a_worker_runs_the_package_of_its_parent(tmp_path, monkeypatch):
    """Not what lies in the current folder under the same name."""
    (tmp_path / "here" / "fourbit_onnx").mkdir(parents=True)
    (tmp_path / "here" / "fourbit_onnx" / "__init__.py").write_text("raise SystemExit(7)")
    (tmp_path / "here" / "random.py").write_text("raise SystemExit(8)")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    workers = Workers(opened(tmp_path / "x", tiny(epochs=1)))
    workers.start(("fp16", 0), False)
    assert heard(workers)[-1].kind == "done"


@pytest.mark.slow
def test_a_refusal_and_a_traceback(tmp_path):
    folder = opened(tmp_path / "x", tiny(model="transformer", model_options={}))
    workers = Workers(folder)
    workers.start(("fp16", 0), False)
    last = heard(workers)[-1]
    assert last.kind == "refused"
    assert "\n" not in last.fields["text"]
    workers.start(("no-such-recipe", 0), False)
    last = heard(workers)[-1]
    assert (last.kind, last.fields) == ("died", {"code": 1})
    assert "KeyError: 'no-such-recipe'" in folder.log("no-such-recipe", 0).read_text()


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path):
    settings = ["--model", "mlp", "--recipes", "fp16", "--epochs", "20", "--seeds", "1", "-o", "x"]
    command = [*FOURBIT, "check", "digits", *settings]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: list(tmp_path.glob("x/work/*/0/notes.json")))
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "Stopped, and saved in x. Go on with the same command."
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    assert "Written: x/report.json" in done.stdout
    assert json.loads((tmp_path / "x" / "report.json").read_text())["seeds"]["complete"] == 1
    assert len(result(tmp_path / "x", "fp16", 0)["epochs"]) == 20
    assert {path.name for path in (tmp_path / "x").iterdir()} - {"report.html"} == {
        "check.json", "report.json", "runs", "trained"
    }  # fmt: skip
