"""``fourbit train`` and ``eval``: what they say, save, refuse, and go on with; one run to its export."""

import json
import os
import shutil
import signal
import threading

import numpy as np
import onnxruntime as ort
import pytest
from cli import fourbit, full_disk, listing, refusal, state, trained, write

from fourbit_onnx.data import digits
from fourbit_onnx.errors import DataError
from fourbit_onnx.runtime.schedules import Constant, Cosine, Step, restored
from fourbit_onnx.runtime.trainer import Trainer


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


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="Python delivers signals to the main thread only",
)
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
    where = "evaluation data: " if place == "held out" and "{path}" not in said else ""
    assert refusal(*command) == where + said.format(path=path)
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
    said = refusal("train", folder, "--data", tmp_path / "no.npz", code=2)
    assert said.startswith(f"no data at {tmp_path / 'no.npz'}; give .npz, .npy, .csv, .txt, or a")
    assert said.endswith("; or built-in data: digits, glyphs, text, speech")
    for command in (("train", folder, "--data"), ("eval", trained(), "--data")):
        assert refusal(*command, "digts", code=2).startswith(
            "no data at digts (is 'digits' meant?); give .npz"
        )


def test_labels_that_are_text(folder, tmp_path):
    names = np.array(["zero", "one"])[LABELS % 2]
    path = write(tmp_path / "t.npz", labels=names)
    assert refusal("train", folder, "--data", path) == (
        f"'labels.npy' in {path} holds text; save numbers, of classes their index: "
        "numpy.unique(names, return_inverse=True)[1]"
    )
    with pytest.raises(DataError) as refused:
        Trainer(folder).evaluate((IMAGES, names), batch_size=64)
    assert str(refused.value) == (
        "labels is text, the model wants int64; give numbers, of classes their index: "
        "numpy.unique(labels, return_inverse=True)[1]"
    )


def test_a_part_of_data_that_has_one(tmp_path):
    """It was ignored, and the test data taken for the training data or the other way round."""
    path = write(tmp_path / "whole.npz")
    said = refusal("eval", trained(), "--data", path, "--split", "train", code=2)
    assert said == f"--split is for data with a part to train on and one to test on, not {path}"
    result = fourbit("eval", trained(), "--data", "digits", "--split", "train")
    assert result.stdout.endswith(" 1,437 samples\n")


WRONG = {
    "rate": (2, ["--lr", "-1"], "learning rate -1.0; it is a positive number, such as 0.1"),
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
        f"MODEL -o {folder} --force"
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
