"""``fourbit train`` and ``eval``: what they say, save, refuse, and go on with; one run to its export."""

import json
import os
import re
import shutil
import signal
import threading

import numpy as np
import onnxruntime as ort
import pytest
from cli import fourbit, full_disk, listing, mlp, refusal, trained, write

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.data import digits
from fourbit_onnx.runtime.schedules import Constant, Cosine, Step, restored


@pytest.fixture
def folder(tmp_path):
    assert fourbit("convert", mlp(), "-o", tmp_path / "out").exit_code == 0
    return tmp_path / "out"


def state(folder):
    return {name: array.tobytes() for name, array in checkpoint.read(folder).tensors.items()}


def test_train_evaluate_export(folder, tmp_path):
    result = fourbit(
        "train", folder, "--data", "digits", "--eval", "digits", "--epochs", 2, "--batch-size", 100
    )
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1].startswith("epoch 2/2 loss ")
    first, then = result.stdout.splitlines()
    assert first.startswith("2 epochs, 30 steps, ")
    assert then == f"Next: fourbit export {folder} -o model.onnx"

    text = fourbit("eval", folder, "--data", "digits").stdout
    numbers = json.loads(fourbit("eval", folder, "--data", "digits", "--json").stdout)
    assert numbers["samples"] == 360
    assert text == f"loss {numbers['loss']:.4g}, accuracy {100 * numbers['accuracy']:.1f} %, 360 samples\n"
    assert f"test accuracy {100 * numbers['accuracy']:.1f} %" in first

    file = tmp_path / "model.onnx"
    assert fourbit("export", folder, "-o", file).stdout.endswith("KiB, weights in int4\n")
    (scores,) = ort.InferenceSession(file).run(None, {"image": digits.load().test["image"]})
    right = (scores.argmax(1) == digits.load().test["labels"]).mean()
    assert right == pytest.approx(numbers["accuracy"], abs=2.0**-24)  # means in float32, each off by 2**-25


def test_quiet_and_json(folder):
    result = fourbit("train", folder, "--data", "digits", "--epochs", 1, "--quiet", "--json")
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert (found["epochs"], found["steps"], found["interrupted"]) == (1, 23, False)
    assert found["last"] == found["history"][0]


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
    for damaged in ("", "[]", '{"step": 16}', '{"step": 16, "seconds": []}'):
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


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals")
def test_ctrl_c_while_the_data_is_read(folder, monkeypatch):
    from fourbit_onnx.data import named

    def find(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(named, "find", find)
    before = listing(folder)
    result = fourbit("train", folder, "--data", "digits")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "stopped\n")
    assert listing(folder) == before


@pytest.mark.parametrize("schedule", [Constant(), Constant(7), Cosine(3, 0.1), Step((0.2, 0.3), 0.5, 9)])
def test_a_schedule_comes_back_from_its_text(schedule):
    assert restored(repr(schedule)) == schedule


@pytest.mark.parametrize(
    "text", ["", "Nothing(1)", "Cosine(", "Cosine(warmup=f())", "__import__('os')", "Cosine(3)(4)"]
)
def test_no_schedule_comes_from_other_text(text):
    assert restored(text) is None or restored(text) == Cosine()


LABELS = digits.load().train["labels"]
IMAGES = digits.load().train["image"]
NOT_A_NUMBER = IMAGES.copy()
NOT_A_NUMBER[5, 0, 1, 2] = np.nan

BAD = {
    "label out of range": (
        {"labels": np.where(np.arange(len(LABELS)) == 7, 10, LABELS)},
        "label out of range: labels[7] is 10, the model has 10 classes (0..9); labels start at 0: "
        "correct the "
        "labels, or convert a model with more classes",
    ),
    "NaN": (
        {"image": NOT_A_NUMBER},
        "image[5, 0, 1, 2] is nan; remove or replace such samples: numbers must be finite",
    ),
    "shape": (
        {"image": IMAGES[:, :, :, :4]},
        "image has shape (1437, 1, 8, 4), the model wants (batch, 1, 8, 8); reshape the data, or "
        "convert a model "
        "made for this shape",
    ),
    "no channel": (
        {"image": IMAGES[:, 0]},
        "image has shape (1437, 8, 8), the model wants (batch, 1, 8, 8); write image[:, None]",
    ),
    "type": (
        {"labels": LABELS.astype(np.float32)},
        "labels is float32, the model wants int64; convert it with labels.astype(np.int64)",
    ),
    "length": (
        {"labels": LABELS[:-1]},
        "the arrays of {path} have different numbers of samples: image 1437, labels 1436; give one "
        "label a sample",
    ),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("place", ["train", "held out", "eval"])
def test_bad_data(folder, tmp_path, kind, place):
    arrays, said = BAD[kind]
    path = write(tmp_path / "bad.npz", **arrays)
    command = {
        "train": ("train", folder, "--data", path, "--quiet"),
        "held out": ("train", folder, "--data", "digits", "--eval", path, "--quiet"),
        "eval": ("eval", trained(), "--data", path),
    }[place]
    before = listing(folder)
    assert refusal(*command) == said.format(path=path)
    assert listing(folder) == before


def test_truncated_data(folder, tmp_path):
    path = write(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:50_000])
    assert refusal("train", folder, "--data", path) == (
        f"{path} is no intact .npz file (File is not a zip file); copy it again, or write it with numpy.savez"
    )


def test_one_array_is_not_both(folder, tmp_path):
    np.save(tmp_path / "one.npy", IMAGES)
    assert refusal("train", folder, "--data", tmp_path / "one.npy") == (
        f"{tmp_path / 'one.npy'} has only 'image', the model wants 'image', 'labels': give an .npz file or a "
        "folder of .npy files that has 'labels', too"
    )


def test_names_of_the_file(folder, tmp_path):
    path = tmp_path / "names.npz"
    np.savez(path, x=IMAGES, y=LABELS)
    assert refusal("train", folder, "--data", path) == (
        f"{path} has no 'image'; it has 'x', 'y', the model wants 'image', 'labels': say which is "
        "which, such as --key image=x (keys={'image': 'x'})"
    )
    np.savez(path, x=IMAGES, y=LABELS, more=np.zeros(3))  # of another length, and not asked for
    assert refusal("train", folder, "--data", path, "--key", "picture=x") == (
        "the model has no input 'picture'; it wants 'image', 'labels'"
    )
    keys = ("--key", "image=x", "--key", "labels=y")
    assert fourbit("train", folder, "--data", path, *keys, "--epochs", 1, "--quiet").exit_code == 0
    assert fourbit("eval", folder, "--data", path, *keys).exit_code == 0


def test_no_data(folder, tmp_path):
    said = refusal("train", folder, "--data", tmp_path / "no.npz")
    assert said.startswith(f"no data at {tmp_path / 'no.npz'}; give .npz, .npy, .csv, .txt, or a")


WRONG = {
    "rate": (1, ["--lr", "-1"], "learning rate -1.0; it is a positive number, such as 0.1"),
    "schedule": (2, ["--schedule", "linear"], "Invalid value for '--schedule': 'linear' is not one of"),
    "epochs": (2, ["--epochs", "0"], "Invalid value for '--epochs': 0 is not in the range x>=1."),
    "threads": (2, ["--threads", "0"], "Invalid value for '--threads': 0 is not in the range x>=1."),
    "key": (2, ["--key", "image"], "Invalid value for '--key': 'image' is not of the form INPUT=KEY"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_option(folder, kind):
    code, options, said = WRONG[kind]
    before = listing(folder)
    assert refusal("train", folder, "--data", "digits", *options, code=code).startswith(said)
    assert listing(folder) == before


def test_training_twice_is_refused():
    assert refusal("train", trained(), "--data", "digits") == (
        f"{trained()} has been trained for 23 steps; go on with --resume (resume=True), or make a "
        f"fresh folder "
        "with fourbit convert"
    )


@pytest.mark.parametrize("command", [("eval", "--data", "digits"), ("export", "-o", "m.onnx")])
def test_untrained_folder(folder, command):
    name, *options = command
    assert "train" in refusal(name, folder, *options)
    assert not os.path.exists("m.onnx")


@pytest.mark.parametrize(
    "command",
    [("train", "--data", "digits"), ("eval", "--data", "digits"), ("export", "-o", "m.onnx"), ("inspect",)],
)
def test_not_an_artifact_folder(tmp_path, command):
    name, *options = command
    assert refusal(name, tmp_path, *options) == (
        f"{tmp_path} is not an artifact folder (no readable manifest.json); name one that fourbit convert "
        "made, or make one in a new place: fourbit convert MODEL -o NEW"
    )


@pytest.mark.parametrize("file", ["training_model.onnx", "eval_model.onnx", "manifest.json"])
def test_damaged_folder(tmp_path, file):
    folder = tmp_path / "out"
    shutil.copytree(trained(), folder)
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    said = refusal("train", folder, "--data", "digits", "--resume")
    assert str(folder / file) in said
    assert "fourbit convert" in said


def test_damaged_checkpoint(tmp_path):
    """The one before it is used, and that is said; without one it is an error."""
    folder = tmp_path / "out"
    shutil.copytree(trained(), folder)
    damaged = folder / "checkpoint" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    result = fourbit("train", folder, "--data", "digits", "--resume", "--epochs", 1, "--quiet")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Warning: {damaged} is cut short: 100 bytes, its arrays alone take ")

    shutil.rmtree(folder)
    shutil.copytree(trained(), folder)
    damaged.write_bytes(damaged.read_bytes()[:100])
    shutil.rmtree(folder / "checkpoint.previous")
    assert refusal("eval", folder, "--data", "digits").endswith(
        f"no good checkpoint is left: restore one, or make the folder again with: fourbit convert "
        f"MODEL -o {folder}"
    )


def test_full_disk_keeps_the_last_checkpoint(tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(trained(), folder)
    before = state(folder)
    with full_disk():
        result = fourbit("train", folder, "--data", "digits", "--resume", "--epochs", 2, "--quiet")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "File too large" in result.stderr
    assert state(folder) == before
