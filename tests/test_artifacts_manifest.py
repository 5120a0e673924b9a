"""manifest.json: written and read back; a damaged one is refused by name of the field."""

import dataclasses
import json

import pytest

from fourbit_onnx.artifacts import manifest
from fourbit_onnx.errors import ArtifactError

EXAMPLE = manifest.Manifest(
    recipe="ibm2020", loss="mse", optimizer="sgd", inputs=["x"], targets=["labels"], outputs=["y"],
    metrics={"accuracy": "accuracy"}, parameters=["w"], gradients={"w": "w.grad"}, updates={"w": "w.new"},
    moments={"w.momentum": "w.momentum.new"},
)  # fmt: skip


def test_read_gives_what_was_written(tmp_path):
    (tmp_path / manifest.MANIFEST).write_text(EXAMPLE.to_json())
    assert manifest.read(tmp_path) == EXAMPLE


def test_fields_of_a_later_release_are_ignored(tmp_path):
    fields = dataclasses.asdict(EXAMPLE) | {"colour": "red"}
    (tmp_path / manifest.MANIFEST).write_text(json.dumps(fields))
    assert manifest.read(tmp_path) == EXAMPLE


@pytest.mark.parametrize("updates", [{}, {"v": "v.new"}, {"w": "w.new", "v": "v.new"}], ids=str)
def test_updates_of_other_parameters(tmp_path, updates):
    fields = dataclasses.asdict(EXAMPLE) | {"updates": updates}
    (tmp_path / manifest.MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(ArtifactError, match=r"is damaged \(parameters and updates differ\); make it again"):
        manifest.read(tmp_path)


DAMAGE = {
    "a number for a name": {"recipe": 3},
    "a name for names": {"inputs": "x"},
    "numbers for names": {"parameters": [1]},
    "names for a table": {"gradients": ["w"]},
    "a table of numbers": {"updates": {"w": 1}},
    "a truth for a number": {"version": True},
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_damaged_field(tmp_path, change):
    (tmp_path / manifest.MANIFEST).write_text(json.dumps(dataclasses.asdict(EXAMPLE) | change))
    with pytest.raises(
        ArtifactError, match=rf"manifest.json is damaged \('{next(iter(change))}' has another type\)"
    ):
        manifest.read(tmp_path)


REPLACE = (
    r"make it again with fourbit convert MODEL -o NEW and the options of before, and copy NEW/{} here "
    r"\(the training in checkpoint/ is kept\)"
)


@pytest.mark.parametrize("text", ["", "{", '{"version": 1}', "[" * 100_000])
def test_damaged_file(tmp_path, text):
    (tmp_path / manifest.MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=rf"is damaged .*; {REPLACE.format('manifest.json')}$"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"version": 0}'])
def test_another_version(tmp_path, text):
    (tmp_path / manifest.MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match=r"make the folder again, .* MODEL -o .* --force$"):
        manifest.read(tmp_path)


def test_a_parameter_without_a_gradient(tmp_path):
    fields = dataclasses.asdict(EXAMPLE) | {"gradients": {}}
    (tmp_path / manifest.MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(ArtifactError, match=r"is damaged \(a parameter has no gradient\); make it again"):
        manifest.read(tmp_path)


def test_newer_version(tmp_path):
    (tmp_path / manifest.MANIFEST).write_text('{"version": 99}')
    with pytest.raises(ArtifactError, match=r"has version 99, this is for version 1; update fourbit_onnx$"):
        manifest.read(tmp_path)


def test_missing_file(tmp_path):
    with pytest.raises(ArtifactError, match="is not an artifact folder"):
        manifest.read(tmp_path)
