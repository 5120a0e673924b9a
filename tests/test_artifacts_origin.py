"""Models that we wrote ourselves are known, and refused by what they are."""

import onnx
import pytest
from cli import fourbit, refusal, trained

from fourbit_onnx import convert, export
from fourbit_onnx.models import registry

EXPORTED = (
    "the model cannot be trained: it was written by `fourbit export`, in whose models rounding has no "
    "gradient; convert the model that it was made from, or train its folder on (fourbit train FOLDER "
    "--resume)"
)


@pytest.mark.parametrize("weights", ["int4", "float"])
def test_an_exported_model_is_not_converted_again(tmp_path, weights):
    path = tmp_path / "exported.onnx"
    export(trained(), path, weights=weights)
    assert refusal("convert", path, "-o", tmp_path / "out") == EXPORTED
    assert list(tmp_path.iterdir()) == [path]
    seen = fourbit("inspect", path)
    assert seen.exit_code == 0
    assert f"Warning: {EXPORTED}" in seen.stdout + seen.stderr
    assert "convert the model that this one was exported from" in seen.stdout
    assert "--freeze" not in seen.stdout


def test_one_of_floats_can_be_trained_on(tmp_path):
    convert(registry.build("mlp"), tmp_path / "out", recipe="fp32")
    export(tmp_path / "out", tmp_path / "plain.onnx")
    assert fourbit("convert", tmp_path / "plain.onnx", "-o", tmp_path / "again").exit_code == 0


GRAPHS = {
    "training_model.onnx": "training",
    "eval_model.onnx": "evaluation",
    "optimizer_model.onnx": "optimizer",
    "calibration_model.onnx": "calibration",
}


@pytest.mark.parametrize("file", GRAPHS)
def test_a_graph_of_a_folder_is_not_a_model_to_convert(tmp_path, file):
    said = (
        f"the model is the {GRAPHS[file]} graph of a folder that `fourbit convert` wrote; name the folder "
        "(fourbit inspect FOLDER, fourbit train FOLDER), or the model that it was made from"
    )
    for command in (["inspect"], ["convert", "-o", tmp_path / "out"]):
        assert refusal(command[0], trained() / file, *command[1:]) == said
    assert not list(tmp_path.iterdir())


def test_the_graphs_of_a_folder_are_all_of_them():
    assert set(GRAPHS) == {path.name for path in trained().glob("*.onnx")}
    assert {onnx.load(trained() / file).graph.name for file in GRAPHS} == set(GRAPHS.values())
