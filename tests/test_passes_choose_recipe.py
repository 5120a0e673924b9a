"""``--recipe auto``: which model is of which field, and the commands that take it."""

import json
import re
from pathlib import Path

import onnx
import pytest
from cli import fourbit, mlp, refusal
from harness_runs import InProcess

from fourbit_onnx import api
from fourbit_onnx.harness import check
from fourbit_onnx.models import registry
from fourbit_onnx.passes.choose_recipe import choose_recipe
from fourbit_onnx.recipes import table

FIELDS = {
    "resnet8": "vision",
    "mobilenetv2": "vision",
    "bilstm": "speech",
    "lstm_lm": "language",
    "transformer_lm": "language",
    "transformer_seq2seq": "language",
}


@pytest.fixture(autouse=True)
def told_apart(monkeypatch):
    """A recipe of its own for each field, whatever the studies say now."""
    monkeypatch.setattr(table, "BEST", {"vision": "minmax", "speech": "luq", "language": "mxfp4"})


@pytest.mark.parametrize(("name", "field"), FIELDS.items())
def test_field(name, field):
    choice = choose_recipe(registry.build(name))
    assert (choice.recipe.name, choice.field) == (table.BEST[field], field)


def test_no_field_is_the_default():
    assert choose_recipe(registry.build("mlp")).recipe.name == table.DEFAULT


def test_a_1d_convolution_is_speech():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (float[N,4,9] x) => (float[N,2,7] y) <float[2,4,3] w = {" + ", ".join(["1"] * 24) + "}>"
        "{ y = Conv (x, w) }"
    )
    assert choose_recipe(model).recipe.name == "luq"
    assert choose_recipe(model).sign == "a 1-D convolution"


def test_a_weight_that_is_listed_as_an_input_is_no_data():
    """As files of before IR version 4 list every weight; this one is a shape of integers."""
    model = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 13]>'
        "g (float[N,4,9,9] x, float[2,4,3,3] w, int64[2] s) => (float[N,98] y) <float[2,4,3,3] w = {"
        + ", ".join(["1"] * 72)
        + "}, int64[2] s = {-1, 98}> { c = Conv (x, w) y = Reshape (c, s) }"
    )
    assert {value.name for value in model.graph.input} == {"x", "w", "s"}
    assert choose_recipe(model).field == "vision"


VISION = "auto: minmax, the choice for vision by docs/accuracy.md; the model has a 2-D or 3-D convolution"
DEFAULT = "auto: ibm2020, the default; the model has no tokens, LSTM or convolution to tell its field by"


def test_convert_and_inspect(tmp_path):
    file = tmp_path / "m.onnx"
    onnx.save(registry.build("resnet8", input_shape=(1, 8, 8)), file)
    assert api.convert(file, tmp_path / "a", recipe="auto").plan.recipe == "minmax"
    found = fourbit("inspect", str(file), "--recipe", "auto", "--json")
    assert json.loads(found.stdout)["plan"]["recipe"] == "minmax"
    assert found.stderr == VISION + "\n"
    assert fourbit("inspect", str(file), "--recipe", "auto", "--toml").stdout.startswith('name = "my-minmax"')
    found = fourbit("convert", str(file), "-o", tmp_path / "b", "--recipe", "auto")
    assert found.stdout.startswith(f"{tmp_path / 'b'}: recipe minmax\n")
    assert found.stderr == VISION + "\n"
    found = fourbit("convert", mlp(), "-o", tmp_path / "c", "--recipe", "auto", "--json")
    assert json.loads(found.stdout)["recipe"] == table.DEFAULT
    assert found.stderr.splitlines()[0] == DEFAULT


BLOCKS = (
    "Warning: a scale for each block of elements: activations stay in float32 for the backward pass, which "
    "saves no memory, and the exported model is larger and slower than with ibm2020"
)


def test_what_the_choice_for_language_costs(tmp_path):
    """It is taken for its accuracy; who asked for auto may want 4 bits for another reason."""
    file = tmp_path / "m.onnx"
    onnx.save(registry.build("transformer_lm"), file)
    for command in (("convert", file, "-o", tmp_path / "a"), ("inspect", file)):
        assert fourbit(*command, "--recipe", "auto").stderr.splitlines()[1:] == [BLOCKS]
    assert fourbit("convert", file, "-o", tmp_path / "b", "--recipe", "luq").stderr == ""
    one = ("--recipe", "luq", "--set", "layers.0.fc1*=nvfp4")
    assert fourbit("convert", file, "-o", tmp_path / "c", *one).stderr == BLOCKS + "\n"


def test_check(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "Workers", InProcess)
    arguments = ("check", "digits", "--model", "mlp", "--epochs", 1, "--seeds", 1, "-o", tmp_path / "x")
    found = fourbit(*arguments, "--recipes", "auto,minmax,auto~sawb")
    report = json.loads((tmp_path / "x" / "report.json").read_text())
    names = ["fp16", table.DEFAULT, "minmax", f"{table.DEFAULT}~sawb"]
    assert [row["name"] for row in report["recipes"]] == names
    assert report["auto"] == DEFAULT
    assert f"{DEFAULT}." in report["notes"]
    assert DEFAULT in found.stdout.splitlines()
    found = fourbit(*arguments)
    assert found.exit_code == 0
    assert "auto" not in found.stdout
    assert json.loads((tmp_path / "x" / "report.json").read_text())["auto"] is None


def test_check_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "Workers", InProcess)
    arguments = ("check", mlp(), "--data", "digits", "--epochs", 1, "--seeds", 1, "-o", tmp_path / "x")
    found = fourbit(*arguments, "--recipes", "auto", "--json")
    assert [row["name"] for row in json.loads(found.stdout)["recipes"]] == ["fp16", table.DEFAULT]


def test_a_technique_that_the_chosen_one_lacks(tmp_path):
    said = refusal("check", "digits", "--recipes", "auto~hadamard", "-o", tmp_path / "x", code=2)
    assert said.startswith("recipe 'minmax' ")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_demo(tmp_path):
    found = fourbit("demo", "-o", tmp_path / "x", "--epochs", 1, "--recipes", "auto")
    assert VISION in found.stdout.splitlines()
    assert (tmp_path / "x" / "minmax.onnx").exists()
    assert f"fourbit inspect {tmp_path / 'x' / 'minmax'} " in found.stdout  # not x/auto, which is not there


def test_auto_needs_a_model():
    found = fourbit("inspect", "--recipe", "auto", "--toml")
    assert found.exit_code == 2
    assert "--recipe auto needs a model file to look at." in found.stderr


def test_the_choices_are_those_of_the_document(monkeypatch):
    monkeypatch.undo()
    assert all(table.find(name).arithmetic == "4-bit" for name in table.BEST.values())
    text = (Path(__file__).parents[1] / "docs" / "accuracy.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"`--recipe auto` takes ([^.]*)\.", text)
    named: dict[str, str] = {}
    for part in re.split(r",\s+", sentence):  # `ibm2020` for vision and speech
        name, fields = re.fullmatch(r"`([^`]*)`\s+for\s+(.*)", part, re.DOTALL).groups()
        named |= dict.fromkeys(re.split(r"\s+and\s+", fields), name)
    assert named == dict(table.BEST)
