"""``fourbit train --resume``: its settings, its summary, and Ctrl-C before it."""

import json
import os
import re
import shutil
import signal

import pytest
from cli import fourbit, listing, state

from fourbit_onnx.artifacts import checkpoint


def test_resume_uses_the_settings_of_the_run(folder, tmp_path):
    settings = (
        "--data",
        "digits",
        "--epochs",
        3,
        "--batch-size",
        200,
        "--lr",
        0.07,
        "--seed",
        5,
        "--warmup",
        4,
    )
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    fourbit("train", whole, *settings, "--quiet")

    raise_after(folder, settings, steps=10)
    result = fourbit("train", folder, "--data", "digits", "--resume", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")  # no warning of a setting that differs
    assert state(folder) == state(whole)

    result = fourbit("train", folder, "--data", "digits", "--resume", "--quiet")
    assert result.stderr == "Nothing to do: all epochs are done; more with --epochs.\n"


def raise_after(folder, settings, steps):
    """Train, and send Ctrl-C after some steps."""
    from fourbit_onnx.runtime.engine import Engine

    advance, count = Engine.advance, 0

    def counted(self, batch, rate):
        nonlocal count
        count += 1
        if count == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self, batch, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "advance", counted)
        result = fourbit("train", folder, *settings, "--quiet")
    assert (result.exit_code, result.stdout) == (130, "")  # nothing that looks like an end
    assert result.stderr == (
        f"Stopped after step {steps}, and saved. Go on with the same command and --resume.\n"
    )
    assert checkpoint.read(folder).progress.step == steps


def test_what_a_resumed_run_took(folder):
    """This part and the whole; the time of the whole only if every part of it left its own."""
    options = ("--data", "digits", "--eval", "digits", "--batch-size", 200)
    raise_after(folder, (*options, "--epochs", 2), steps=10)
    first = json.loads((folder / "seconds.json").read_text())
    assert first["step"] == 10
    saved = listing(folder)
    part, whole, following = fourbit("train", folder, *options, "--resume", "--quiet").stdout.splitlines()
    assert re.fullmatch(r"this part: 6 steps, \d+\.\d s", part)
    taken = json.loads((folder / "seconds.json").read_text())["seconds"]
    assert taken > first["seconds"]
    assert whole.startswith(f"2 epochs, 16 steps, {taken:.1f} s in all: training loss ")
    assert following.startswith("Next: ")

    lines = fourbit("train", folder, *options, "--resume", "--quiet").stdout.splitlines()  # nothing to do
    assert [line.split(":")[0] for line in lines] == [f"2 epochs, 16 steps, {taken:.1f} s in all", "Next"]

    (folder / "seconds.json").write_text(json.dumps({"step": 11, "seconds": 1}))
    for path, content in saved.items():
        if path.name != "seconds.json":
            (folder / path).write_bytes(content)
    found = json.loads(fourbit("train", folder, *options, "--resume", "--quiet", "--json").stdout)
    assert (found["steps"], found["steps_of_this_part"], found["seconds_of_the_run"]) == (16, 6, None)
    for damaged in (None, "", "[]", '{"step": 16}', '{"step": 16, "seconds": []}'):
        if damaged is None:  # as after a run from Python
            (folder / "seconds.json").unlink()
        else:
            (folder / "seconds.json").write_text(damaged)
        whole, _ = fourbit("train", folder, *options, "--resume", "--quiet").stdout.splitlines()
        assert whole.startswith("2 epochs, 16 steps in all: training loss ")


def test_resuming_without_the_evaluation_data_is_said(folder):
    options = ("--data", "digits", "--batch-size", 200, "--quiet")
    fourbit("train", folder, *options, "--epochs", 1, "--eval", "digits")
    result = fourbit("train", folder, *options, "--resume")
    assert result.stderr.splitlines()[0] == (
        "Warning: resumed without evaluation data (--eval, evaluation=...), with which the run began"
    )


def test_seconds_that_cannot_be_written_stop_nothing(folder):
    (folder / "seconds.json").mkdir()
    result = fourbit("train", folder, "--data", "digits", "--epochs", 1, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.match(r"1 epoch, 23 steps, \d+\.\d s: training loss ", result.stdout)
