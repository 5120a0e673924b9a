"""``fourbit demo``: the whole way, shortened; what it leaves alone."""

import json
import os
import signal
import sys

import onnxruntime as ort
import pytest
from cli import fourbit, full_disk, listing, refusal
from rich.console import Console

from fourbit_onnx.artifacts import manifest
from fourbit_onnx.cli.bars import Bars
from fourbit_onnx.data import digits
from fourbit_onnx.recipes.table import DEFAULT
from fourbit_onnx.runtime import plot


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "made"
    return folder, fourbit("demo", "-o", folder, "--epochs", 2, "--threads", 2)


def test_what_it_says(made):
    folder, result = made
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[3:5] == [
        f"model    {folder}/resnet8.onnx, 77,754 weights",
        "data     1,437 images of 8x8 pixels to train on, 360 to test on",
    ]
    rows = {line.split()[0]: line for line in lines if line.endswith((" s", "training"))}
    assert rows["recipe"] == "recipe   test accuracy  MACs in 4 bits  product inputs  training"
    assert "  0.0 %         8.8 KiB " in rows["fp16"]
    assert "98.7 %         3.2 KiB " in rows[DEFAULT]
    assert "         on plain onnxruntime: 360 of 360 predictions the same" in lines
    assert f"  fourbit inspect {folder}/{DEFAULT} " in result.stdout
    assert [line.split(maxsplit=1)[0] for line in result.stderr.splitlines()] == ["fp16"] * 2 + [DEFAULT] * 2
    shown = [line.replace(str(folder), "fourbit-demo") for line in lines if not line.startswith("  fourbit ")]
    assert max(map(len, shown)) < 80


def test_what_it_leaves(made):
    folder, _ = made
    assert {path.name for path in folder.iterdir()} == {
        "demo.json", "resnet8.onnx", "fp16", DEFAULT, f"{DEFAULT}.onnx", "curves.png",
    }  # fmt: skip
    runs = json.loads((folder / "demo.json").read_text())["runs"]
    assert manifest.read(folder / DEFAULT).recipe == DEFAULT
    test = digits.load().test
    (scores,) = ort.InferenceSession(folder / f"{DEFAULT}.onnx").run(None, {"image": test["image"]})
    assert (scores.argmax(1) == test["labels"]).mean() == pytest.approx(
        runs[DEFAULT]["accuracy"], abs=2.0**-24
    )  # a mean of means in float32, each off by 2**-25
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_auto_is_shown_where_it_lies(tmp_path):
    result = fourbit("demo", "-o", tmp_path / "x", "--recipes", "auto", "--epochs", 1)
    assert result.exit_code == 0
    assert f"  fourbit inspect {tmp_path}/x/ibm2020 " in result.stdout
    assert (tmp_path / "x" / "ibm2020").is_dir()


def test_it_does_not_replace_unasked(made):
    folder, _ = made
    before = listing(folder)
    said = refusal("demo", "-o", folder)
    assert said == f"{folder} exists; choose another folder with --output, or replace it with --force"
    assert listing(folder) == before


def test_it_never_replaces_what_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    said = refusal("demo", "-o", tmp_path, "--force")
    assert said == f"{tmp_path} exists and is not a demo's; choose another folder with --output"
    assert list(tmp_path.iterdir()) == [tmp_path / "thesis.txt"]


def test_unknown_recipe(tmp_path):
    said = refusal("demo", "-o", tmp_path / "x", "--recipes", "fp16,ibm", code=2)
    assert said.startswith("Invalid value for '--recipes': no recipe 'ibm'; there are: fp32, fp16, ")
    assert refusal("demo", "-o", tmp_path / "x", "--recipes", " ,", code=2).endswith(
        "name at least one recipe"
    )
    assert not (tmp_path / "x").exists()


def test_ctrl_c_ends_it_and_it_can_be_replaced(tmp_path, monkeypatch):
    from fourbit_onnx.runtime.engine import Engine

    advance = Engine.advance

    def interrupted(self, batch, rate):
        os.kill(os.getpid(), signal.SIGINT)
        return advance(self, batch, rate)

    monkeypatch.setattr(Engine, "advance", interrupted)
    result = fourbit("demo", "-o", tmp_path / "x")
    assert (result.exit_code, result.stderr) == (130, "stopped\n")
    monkeypatch.undo()
    result = fourbit("demo", "-o", tmp_path / "x", "--force", "--recipes", "minmax", "--epochs", 1)
    assert result.exit_code == 0
    assert "fp16" not in result.stdout


def test_a_folder_that_was_not_named_does_not_stay_half_made(tmp_path, monkeypatch):
    from fourbit_onnx.runtime.engine import Engine

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "advance", stopped)
        assert fourbit("demo").exit_code == 130
        assert os.listdir() == []
        assert fourbit("demo", "-o", "x").exit_code == 130
        assert os.listdir() == ["x"]
        (tmp_path / "fourbit-demo").mkdir()
        (tmp_path / "fourbit-demo" / "thesis.txt").write_text("years of work")
        refusal("demo", "--force")
    assert listing(tmp_path / "fourbit-demo").values()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = "cannot write {}/demo.json: File too large; nothing was left behind: remove the cause"
    with full_disk(10):
        for options, folder in (((), "fourbit-demo"), (("-o", "x"), "x")):
            assert refusal("demo", *options) == said.format(folder)
    assert os.listdir() == []
    with full_disk(10_000):  # room for the mark
        assert "cannot write x/resnet8.onnx: " in refusal("demo", "-o", "x")
    assert os.listdir() == []


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = fourbit("demo", "-o", tmp_path / "x", "--recipes", "fp32", "--epochs", 1)
    assert result.exit_code == 0
    assert (
        "no plot  matplotlib is not installed; add it with: pip install matplotlib (the extra 'plot')"
        f" (the numbers are in {tmp_path / 'x' / 'demo.json'})\n"
    ) in result.stdout
    assert not (tmp_path / "x" / "curves.png").exists()


def test_plot_of_many_runs(tmp_path):
    records = [{"epoch": float(e), "loss": 1 / (e + 1), "eval_accuracy": e / 10} for e in range(10)]
    plot.learning_curves({f"run {i}": records for i in range(9)}, tmp_path / "many.svg", title="Nine")
    assert "Nine" in (tmp_path / "many.svg").read_text()


def test_plot_that_cannot_be_written(tmp_path):
    with pytest.raises(plot.FourbitError, match=r"cannot write .*: No such file or directory"):
        plot.learning_curves({}, tmp_path / "no" / "x.png")
    with pytest.raises(plot.FourbitError, match="cannot write"):
        plot.learning_curves({}, tmp_path / "x.nothing")
    assert list(tmp_path.iterdir()) == []


def test_bars_on_a_terminal():
    """Both runs are visible from the start; a bar shows how far its run is."""
    console = Console(force_terminal=True, width=80, record=True, color_system=None)
    with Bars(["fp16", "ibm2020"], 2, 10, console) as bars, bars.display("fp16") as display:
        display.step(0, 5, {"loss": 0.5}, 100.0)
        display.epoch(0, {"loss": 0.5, "eval_accuracy": 0.9})
    text = console.export_text()
    assert "fp16    ━" in text
    assert "epoch 1/2  loss 0.5000  test 90.0 %" in text
    assert "\nibm2020 " in text
    assert "waiting" in text
