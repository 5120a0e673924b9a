"""Exit codes, one rule: 2 for what cannot be whatever the files hold, 1 for what these hold."""

import re
import shutil
from pathlib import Path

import pytest
from cli import fourbit, listing, mlp, refusal, trained, write

from fourbit_onnx import Trainer, convert
from fourbit_onnx.errors import FourbitError, RecipeError, TrainingError, as_wrong_use, meant

CONVERT, TRAIN, CHECK = ("convert", mlp, "-o", "out"), ("train", "copy", "--data"), ("check", "digits")
ASKED = {  # what does not exist, is out of its range, or does not go together; a file that is not there
    "no option": (*CONVERT, "--recepie", "luq"),
    "no recipe": (*CONVERT, "--recipe", "lug"),
    "no recipe file": (*CONVERT, "--recipe", "no.toml"),
    "no technique": (*CONVERT, "--recipe", "ibm2020~magic"),
    "a technique that the recipe lacks": (*CONVERT, "--without", "hadamard"),
    "momentum": (*CONVERT, "--momentum", "2"),
    "weight decay": (*CONVERT, "--weight-decay", "-1"),
    "clip decay": (*CONVERT, "--clip-decay", "nan"),
    "norm": (*CONVERT, "--max-norm", "inf"),
    "clip": (*CONVERT, "--initial-clip", "-1"),
    "momentum of AdamW": (*CONVERT, "--optimizer", "adamw", "--momentum", "0.9"),
    "no model": ("convert", "no.onnx", "-o", "out"),
    "no schedule": (*TRAIN, "digits", "--schedule", "linear"),
    "rate": (*TRAIN, "digits", "--lr", "0"),
    "rate that is no number": (*TRAIN, "digits", "--lr", "nan"),
    "rate without bound": (*TRAIN, "digits", "--lr", "inf"),
    "epochs": (*TRAIN, "digits", "--epochs", "0"),
    "no data": (*TRAIN, "no.npz"),
    "no test data": (*TRAIN, "digits", "--eval", "digts"),
    "no folder": ("train", "nowhere", "--data", "digits"),
    "a part": ("eval", trained, "--data", "data.npz", "--split", "train"),
    "no data to evaluate": ("eval", trained, "--data", "no.npz"),
    "no data to compare": ("export", trained, "-o", "m.onnx", "--check", "no.npz"),
    "no task": ("check", "digts"),
    "rate of a check": (*CHECK, "--lr", "-1"),
    "decay of a check": (*CHECK, "--weight-decay", "-1"),
    "clip decay of a check": (*CHECK, "--clip-decay", "-1"),
    "norm of a check": (*CHECK, "--max-norm", "nan"),
    "margin": (*CHECK, "--margin", "-0.1"),
    "no reference model": (*CHECK, "--model", "resnet9"),
    "no option of the model": (*CHECK, "--model-option", "size=3"),
    "no data for a check": ("check", mlp, "--data", "no.npz"),
    "no test data for a check": ("check", mlp, "--data", "data.npz", "--eval", "no.npz"),
    "techniques of a check": (*CHECK, "--recipes", "luq", "--without", "hadamard"),
    "options of another kind of argument": ("inspect", trained, "--recipe", "luq"),
    "no operator": ("ops", "QuantizeInt5"),
    "no command": ("convrt", mlp),
}
HELD = {
    "no ONNX": ("convert", "text", "-o", "out"),
    "a recipe file": (*CONVERT, "--recipe", "bad.toml"),
    "a recipe file for a pattern": (*CONVERT, "--set", "*=bad.toml"),
    "a pattern that fits nothing": (*CONVERT, "--keep", "layer9*"),
    "an output that it lacks": (*CONVERT, "--loss-output", "y"),
    "a folder that is there": ("convert", mlp, "-o", "here"),
    "an input that it lacks": (*TRAIN, "data.npz", "--key", "picture=image"),
    "a batch that it does not take": (*TRAIN, "bad.npz"),
    "trained already": ("train", trained, "--data", "digits"),
    "never trained": ("eval", "copy", "--data", "digits"),
    "no artifact folder": ("eval", "here", "--data", "digits"),
    "figures": ("inspect", trained, "--project", "--figures", "bad.toml"),
    "a file that is there": ("export", trained, "-o", "text"),
    "a place where nothing can be": ("export", trained, "-o", "/proc/x.onnx"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("nothing")
    Path("bad.toml").write_text("weight = 1")
    Path("here").mkdir()
    convert(mlp(), "copy")
    write(Path("data.npz"))
    write(Path("bad.npz"), labels=[99] * 1437)
    return tmp_path


@pytest.mark.parametrize("case", [*ASKED, *HELD])
def test_exit_code(place, case):
    before = listing(place)
    command = [word() if callable(word) else word for word in (ASKED | HELD)[case]]
    assert refusal(*command, code=2 if case in ASKED else 1)
    assert listing(place) == before


def test_where_nothing_can_be_the_remedy_is_another_place(place):
    said = refusal("export", trained(), "-o", "/proc/x.onnx")
    assert said.endswith("nothing was left behind: choose another place")
    assert refusal("convert", mlp(), "-o", "/proc/x").endswith("choose another place")


def test_what_was_meant_is_said(place):
    assert refusal("check", "digts", code=2).endswith("nor a model file (is 'digits' meant?)")
    said = refusal("convert", mlp(), "--recipes", "luq", code=2)  # an option of check
    assert "'--recipe'" in said
    assert "belongs to" not in said
    said = refusal("eval", trained(), "--data", "no.npz", "--split", "test", code=2)
    assert said.startswith("no data at no.npz; give ")


def test_a_file_may_be_called_as_a_reference_model_is(place):
    shutil.copy(mlp(), "mlp")
    assert fourbit("convert", "mlp", "-o", "out").exit_code == 0


def test_python_raises_the_same_class_as_ever(place):
    with pytest.raises(RecipeError) as refused:
        convert(mlp(), "out", momentum=2)
    assert refused.value.wrong_use
    with pytest.raises(TrainingError) as refused:
        Trainer("copy").fit({}, epochs=1, learning_rate=0)
    assert refused.value.wrong_use
    with pytest.raises(FourbitError) as refused:
        convert("text", "out")
    assert not refused.value.wrong_use
    assert not FourbitError.wrong_use
    with pytest.raises(ValueError, match="other"), as_wrong_use():
        raise ValueError("other")


def test_the_readme_says_the_rule():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (rule,) = re.findall(r"Exit codes: ([^.]*)\.", text)
    assert [word.split()[0] for word in re.split(r",\s+(?=\d)", rule)] == ["0", "1", "2", "130"]


def test_meant():
    assert meant("trian", ["train", "eval"]) == " (is 'train' meant?)"
    assert meant("frobnicate", ["train"]) == ""
