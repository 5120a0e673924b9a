"""``fourbit check``: what it prints, refuses, and leaves; runs in this process."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from cli import fourbit, listing, mlp, refusal, write
from harness_runs import InProcess
from rich.console import Console

from fourbit_onnx.cli import check as cli_check
from fourbit_onnx.data import digits
from fourbit_onnx.harness.display import Bars, duration, number
from fourbit_onnx.recipes.table import DEFAULT

TINY = ("--model", "mlp", "--epochs", 1, "--seeds", 2)
pytestmark = pytest.mark.usefixtures("in_process")


def test_what_it_says_and_leaves(tmp_path):
    folder = tmp_path / "x"
    result = fourbit("check", "digits", *TINY, "-o", folder)
    assert result.exit_code == 0
    report = json.loads((folder / "report.json").read_text())
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "recipe"
    assert "difference, points" in lines[0]
    base, row = report["recipes"]
    assert lines[1].startswith(f"fp16      {100 * base['mean']:.2f} % ")
    difference = row["difference"]
    shown = (
        f"{100 * difference['mean']:+.2f} [{100 * difference['low']:+.2f}, {100 * difference['high']:+.2f}]"
    )
    assert f"{100 * row['mean']:.2f} %  {shown}" in lines[2]
    assert row["verdict"] in lines[2]
    assert lines[4].startswith("2 seeds; difference to fp16 with its 95 % interval, paired by seed;")
    assert lines[5].startswith("margin 0.5 points.")
    assert lines[-1].startswith(f"Written: {folder / 'report.json'}")
    assert result.stderr.splitlines()[0].startswith("1/4  fp16, seed 0: ")
    assert len(result.stderr.splitlines()) == 4
    again = fourbit("check", "digits", *TINY, "-o", folder)
    assert again.stdout == result.stdout
    assert again.stderr == "4 of 4 runs were finished earlier\n"


def test_json_and_quiet(tmp_path):
    result = fourbit("check", "digits", *TINY, "-o", tmp_path / "x", "--json", "--quiet")
    assert result.stderr == ""
    assert json.loads(result.stdout) == json.loads((tmp_path / "x" / "report.json").read_text())


def test_one_seed_decides_nothing(tmp_path):
    result = fourbit("check", "digits", *TINY, "--seeds", 1, "-o", tmp_path / "x")
    assert "not decided" in result.stdout
    assert "1 seed; one decides nothing, --seeds 3 or more gives a verdict;" in result.stdout
    assert re.search(r" \[not known\] +not decided ", result.stdout)


def test_your_model(tmp_path):
    write(tmp_path / "mine.npz")
    result = fourbit(
        "check", mlp(), "--data", tmp_path / "mine.npz", "--epochs", 1, "--seeds", 2, "-o", tmp_path / "x"
    )
    assert result.exit_code == 0
    report = json.loads((tmp_path / "x" / "report.json").read_text())
    assert report["task"]["field"] == "yours"
    assert report["data"]["samples"] == {"train": 1150, "test": 287}
    assert any("those of the file, for every seed" in note for note in report["notes"])
    assert any("held out" in note for note in report["notes"])
    said = refusal(
        "check", mlp(), "--data", write(tmp_path / "mine.npz", labels=[0] * 1437), "--epochs", 1,
        "--seeds", 2, "-o", tmp_path / "x",
    )  # fmt: skip
    assert said.startswith(f"{tmp_path / 'x'} holds a check with other data;")


def test_bad_data_is_refused_with_the_recipe(tmp_path):
    said = refusal(
        "check", mlp(), "--data", write(tmp_path / "mine.npz", labels=[99] * 1437), "-o", tmp_path / "x"
    )
    assert said.startswith("fp16: ")
    assert "99" in said
    assert not (tmp_path / "x").exists()
    said = refusal("check", mlp(), "--data", tmp_path / "nothing.npz", "-o", tmp_path / "y", code=2)
    assert said.startswith(f"no data at {tmp_path / 'nothing.npz'}; give .npz, ")
    assert not (tmp_path / "y").exists()


def test_a_refused_check_does_not_block_the_corrected_command(tmp_path):
    data, x = tmp_path / "mine.npz", tmp_path / "x"
    part = digits.load().train
    np.savez(data, image=part["image"], label=part["labels"])
    command = ("check", mlp(), "--data", data, "--epochs", 1, "--seeds", 1, "-o", x)
    x.mkdir()  # the user's own: stays
    assert "--key labels=label" in refusal(*command)
    assert list(x.iterdir()) == []
    assert fourbit(*command, "--key", "labels=label").exit_code == 0
    kept = listing(x)
    assert "holds a check with keys" in refusal(*command)
    assert listing(x) == kept


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("dogits",), "Invalid value for 'TASK|MODEL': 'dogits' is neither a task (digits, "),
        (("digits", "--recipes", "ibm"), "Invalid value for '--recipes': no recipe 'ibm'; there are: fp32, "),
        (("digits", "--recipes", ","), "Invalid value for '--recipes': name at least one recipe"),
        (("digits", "--budget", "10"), "Invalid value for '--budget': '10' is no time; write it as 90s, "),
        (("digits", "--data", "x.npz"), "--data, --eval, --key and --loss are for a model file; a task has"),
        (("digits", "--seeds", "0"), "Invalid value for '--seeds': 0 is not in the range x>=1."),
    ],
)
def test_wrong_use(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert refusal("check", *arguments, code=2).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_of_a_model_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal("check", mlp(), code=2) == "a model file needs --data"
    said = refusal("check", mlp(), "--data", "digits", "--model", "mlp", code=2)
    assert said == "--model and --model-option are for tasks; the model file is the model"
    assert list(tmp_path.iterdir()) == []


def test_unknown_model_and_technique(tmp_path):
    said = refusal("check", "digits", "--model", "mpl", "-o", tmp_path / "x", code=2)
    assert said.startswith("no model 'mpl'; there are: mlp, ")
    refusal("check", "digits", *TINY, "--without", "gravity", "-o", tmp_path / "y", code=2)
    assert not (tmp_path / "y").exists()


def test_a_folder_of_something_else_is_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    before = listing(tmp_path)
    said = refusal("check", "digits", *TINY, "-o", tmp_path, "--force")
    assert said == f"{tmp_path} exists and is not a check's; choose another folder as the output"
    assert listing(tmp_path) == before


def test_nothing_to_compare(tmp_path):
    """A learning rate at which 4 bits fail and FP16 skips every step, which is a failure too."""
    arguments = ("check", "digits", *TINY, "--lr", 1e30, "-o", tmp_path / "x")
    result = fourbit(*arguments)
    assert result.exit_code == 1
    assert "not decided, 2 failed" in result.stdout
    assert f"\nfailed: {DEFAULT}, seed 0: training diverged at step 2 (learning rate " in result.stdout
    sentence = (
        "Error: no recipe can be compared: every run of fp16, the baseline, failed; the failures above say "
        "why, and report.json"
    )
    assert result.stderr.splitlines()[-1] == sentence
    result = fourbit(*arguments, "--json", "--quiet")
    assert (result.exit_code, result.stderr) == (1, sentence + "\n")
    assert json.loads(result.stdout)["recipes"][0]["runs"] == 0
    assert fourbit(*arguments, "--recipes", "fp16", "--quiet").stderr == sentence + "\n"


@pytest.mark.parametrize(
    ("deaths", "why"),
    [
        ([(DEFAULT, 0), (DEFAULT, 1)], "every run but those of fp16 failed"),
        ([("fp16", 0), (DEFAULT, 1)], "none has a seed that fp16 finished, too"),
    ],
)
def test_no_recipe_to_compare(tmp_path, monkeypatch, deaths, why):
    monkeypatch.setattr(InProcess, "deaths", frozenset(deaths))
    result = fourbit("check", "digits", *TINY, "-o", tmp_path / "x", "--quiet")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: no recipe can be compared: {why}; the failures above say why, and report.json\n"
    )
    monkeypatch.setattr(InProcess, "deaths", frozenset())
    assert fourbit("check", "digits", *TINY, "-o", tmp_path / "x", "--quiet").exit_code == 0
    assert fourbit("check", "digits", *TINY, "-o", tmp_path / "x", "--recipes", "fp16").exit_code == 0


@pytest.mark.parametrize("recipe", ["fp16", DEFAULT])
def test_strict(tmp_path, monkeypatch, recipe):
    """A seed that failed, be it of the baseline."""
    monkeypatch.setattr(InProcess, "deaths", frozenset({(recipe, 1)}))
    arguments = ("check", "digits", *TINY, "-o", tmp_path / "x")
    assert fourbit(*arguments).exit_code == 0
    result = fourbit(*arguments, "--strict")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == f"Error: worse than the margin, or failed: {recipe}"


def test_bars_on_a_terminal():
    console = Console(force_terminal=True, width=80, record=True, color_system=None)
    with Bars("accuracy", console) as bars:
        bars.begin(4, 1, 10)
        bars.started(("fp16", 1))
        bars.started(("ibm2020", 1))
        bars.moved(("fp16", 1), 2, 0.25)
        bars.ended(("ibm2020", 1), {"metric": 0.9861, "error": None, "seconds": 65.0})
        bars.remaining(130.0)
    text = console.export_text()
    assert "2/4  ibm2020, seed 1: 98.61 %, 1 min 05 s" in text
    assert "2/4  2 min 10 s left" in text
    assert "fp16, seed 1" in text
    assert "epoch 3/10" in text


def test_numbers_and_durations():
    assert number("accuracy", 0.98765) == "98.77 %"
    assert number("bits_per_character", 2.14321) == "2.143 bits"
    assert number("loss", 0.012345678) == "0.01235"
    assert [duration(s) for s in (0.4, 59.6, 3599.4, 7800)] == [
        "0 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 10 min",
    ]


def test_what_rounds_to_nothing_has_no_sign():
    found = {"mean": -0.00001, "low": -0.0001, "high": 0.00004}
    assert cli_check._difference(found, relative=False) == "0.00 [-0.01, 0.00]"


def test_an_interval_that_is_not_known():
    folder = Path("x")
    row = {
        "name": "fp16",
        "mean": 0.9,
        "difference": None,
        "relative": False,
        "verdict": "baseline",
        "failed": 0,
    }
    row |= {"four_bit_share": 0.0, "seconds": 1.0}
    wide = {"mean": 0.0028, "low": 0.0, "high": 0.01, "n": 2}
    report = {
        "task": {"metric": "accuracy", "margin": 0.005},
        "recipes": [row, row | {"name": "ibm2020", "difference": wide, "verdict": "not decided"}],
        "seeds": {"complete": 2, "asked": 2},
        "partial": False,
        "runs": [],
        "auto": "",
    }
    few = "Too few seeds for a verdict; --seeds 3 or more gives one."
    lines = cli_check._text(report, folder).splitlines()
    assert few in lines
    report["seeds"]["asked"] = 3  # one of which failed
    lines = cli_check._text(report, folder).splitlines()
    assert few not in lines
    assert "Too few runs ended well for a verdict, which takes 3 seeds; the failures below say why." in lines
    report["seeds"]["asked"] = 2
    assert not any("equal" in line for line in lines)
    report["recipes"][1]["difference"] = wide | {"low": None, "high": None}
    lines = cli_check._text(report, folder).splitlines()
    assert lines[2].split("  ")[2] == "+0.28 [not known]"
    assert "ibm2020: all differences are equal, so the interval is not known; use more seeds." in lines
    assert few not in lines


NEGATIVE = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,2] x) => (float loss)
    <float[2,2] a = {1, 2, 3, 4}, float[2,2] b = {1, 2, 3, 4}, float[2,2] c = {1, 2, 3, 4}, float far = {1e6}>
    { t = MatMul (x, a)  u = MatMul (t, b)  y = MatMul (u, c)  v = Mul (y, y)
      m = ReduceMean <keepdims = 0> (v)  loss = Sub (m, far) }"""


def test_a_loss_below_0_cannot_be_compared(tmp_path):
    onnx.save(onnx.parser.parse_model(NEGATIVE), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32))
    result = fourbit(
        "check", tmp_path / "m.onnx", "--data", tmp_path / "d.npz", "--loss", "output", "--lr", "1e-9",
        "--seeds", 1, "--epochs", 1, "-o", tmp_path / "x", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "Error: no recipe can be compared: the loss of fp16 is not above 0 in every run, and differences are "
        "shares of it; choose a --loss or --metric that is"
    )


def test_options_of_the_model_and_seeds(tmp_path):
    options = ("--model-option", "width=2", "--first-seed", 3)
    tiny = ("--epochs", 1, "--seeds", 2, "-o", tmp_path / "x", "--json", "--quiet")
    result = fourbit("check", "digits", *options, *tiny)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["task"]["model_options"] == {"width": 2}
    assert [run["seed"] for run in report["runs"]] == [3, 3, 4, 4]
    for option, said in (
        ("hidden=many", "'many' of hidden is not a number"),
        ("hidden", "'hidden' is not of the form NAME=NUMBER"),
    ):
        wrong = fourbit("check", "digits", "--model-option", option)
        assert wrong.exit_code == 2
        assert said in wrong.stderr
    wrong = fourbit("check", mlp(), "--data", "digits", *options)
    assert wrong.exit_code == 2
    assert "--model and --model-option are for tasks" in wrong.stderr
