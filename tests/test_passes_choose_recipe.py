"""``--recipe auto``: which model is of which field, and the two commands that take it."""

import json

import onnx
import pytest
from cli import fourbit

from fourbit_onnx import api
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
    assert choose_recipe(registry.build(name)).name == table.BEST[field]


def test_no_field_is_the_default():
    assert choose_recipe(registry.build("mlp")).name == table.DEFAULT


def test_a_1d_convolution_is_speech():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]>'
        "g (float[N,4,9] x) => (float[N,2,7] y) <float[2,4,3] w = {" + ", ".join(["1"] * 24) + "}>"
        "{ y = Conv (x, w) }"
    )
    assert choose_recipe(model).name == "luq"


def test_convert_and_inspect(tmp_path):
    file = tmp_path / "m.onnx"
    onnx.save(registry.build("resnet8", input_shape=(1, 8, 8)), file)
    assert api.convert(file, tmp_path / "a", recipe="auto").plan.recipe == "minmax"
    found = fourbit("inspect", str(file), "--recipe", "auto", "--json")
    assert json.loads(found.stdout)["plan"]["recipe"] == "minmax"
    assert fourbit("inspect", str(file), "--recipe", "auto", "--toml").stdout.startswith('name = "minmax"')


def test_auto_needs_a_model():
    found = fourbit("inspect", "--recipe", "auto", "--toml")
    assert found.exit_code == 2
    assert "--recipe auto needs a model file to look at." in found.stderr


def test_the_best_are_recipes(monkeypatch):
    monkeypatch.undo()
    assert set(table.BEST) == {"vision", "speech", "language"}
    assert all(table.find(name).arithmetic == "4-bit" for name in table.BEST.values())
