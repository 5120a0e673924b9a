"""A folder that is opened is the one that was converted: digests of graphs and manifest, names of outputs."""

import hashlib
import json

import pytest
from artifact_folder import data, write
from cli import fourbit, mlp, refusal

from fourbit_onnx.artifacts import digests
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.runtime.trainer import Trainer

REPLACE = (
    "make it again with fourbit convert MODEL -o NEW and the options of before, and copy NEW/{} here (the "
    "training in checkpoint/ is kept)"
)
EDITED = '; if you changed it yourself, put "" for that SHA-256'


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The bytes of every file of a folder beside the checkpoint, and the folder."""
    folder = tmp_path_factory.mktemp("digests") / "out"
    assert fourbit("convert", mlp(), "-o", folder).exit_code == 0
    return folder, {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def folder(converted):
    """The folder as it was converted."""
    place, content = converted
    for name, found in content.items():
        (place / name).write_bytes(found)
    return place


def fields_of(folder):
    return json.loads((folder / files.MANIFEST).read_text())


def test_all_graphs_and_the_manifest_have_digests(folder):
    assert list(fields_of(folder)["sha256"]) == [*files.GRAPHS, files.MANIFEST]
    assert {path.name for path in folder.glob("*.onnx")} == set(files.GRAPHS)


def test_a_digest_is_of_all_bytes_and_of_no_order_of_fields(tmp_path):
    content = bytes(2**21) + b"the end"
    (tmp_path / "file").write_bytes(content)
    assert digests.of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert digests.of_fields({"a": 1, "b": 2}) == digests.of_fields({"b": 2, "a": 1})


@pytest.mark.parametrize("command", ["train", "eval", "inspect", "export"])
@pytest.mark.parametrize("name", files.GRAPHS)
def test_one_bit_of_a_graph(folder, tmp_path, name, command):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    options = {"train": ["--data", "digits"], "eval": ["--data", "digits"], "export": ["-o", tmp_path / "m"]}
    assert refusal(command, folder, *options.get(command, ())) == (
        f"{folder / name} is not what was converted: its SHA-256 is not the one in manifest.json; "
        f"{REPLACE.format(name)}{EDITED}"
    )


def test_a_graph_that_is_gone(folder):
    (folder / files.EVAL_MODEL).unlink()
    assert refusal("inspect", folder) == (
        f"{folder / files.EVAL_MODEL} cannot be read (No such file or directory); "
        f"{REPLACE.format(files.EVAL_MODEL)}"
    )


def test_one_letter_of_the_manifest(folder):
    path = folder / files.MANIFEST
    text = path.read_text()
    changed = text.replace('.new"', '.neu"', 1)
    assert changed != text
    path.write_text(changed)
    assert refusal("train", folder, "--data", "digits") == (
        f"{path} is not what was converted: its SHA-256 is not the one in manifest.json; "
        f"{REPLACE.format(files.MANIFEST)}{EDITED}"
    )


def test_digest_of_no_file_of_a_folder(folder):
    fields = fields_of(folder)
    fields["sha256"]["../m.onnx"] = "0"
    (folder / files.MANIFEST).write_text(json.dumps(fields))
    assert refusal("inspect", folder) == (
        f"{folder / files.MANIFEST} is damaged (no file '../m.onnx'); {REPLACE.format(files.MANIFEST)}"
    )


def test_the_remedies_work(folder, tmp_path):
    """A second conversion gives the file again; with "" a graph that was edited is taken."""
    graph = folder / files.TRAINING_MODEL
    graph.write_bytes(graph.read_bytes() + b"\xa2\x06\x00")  # a field that no reader of ONNX knows
    assert "is not what was converted" in refusal("inspect", folder)
    fields = fields_of(folder)
    fields["sha256"][graph.name] = ""
    (folder / files.MANIFEST).write_text(json.dumps(fields, indent=2))
    assert fourbit("inspect", folder).exit_code == 0

    assert fourbit("convert", mlp(), "-o", tmp_path / "new").exit_code == 0
    for name in (files.TRAINING_MODEL, files.MANIFEST):
        (folder / name).write_bytes((tmp_path / "new" / name).read_bytes())
    assert fields_of(folder)["sha256"][graph.name] == digests.of_file(graph)
    assert fourbit("inspect", folder).exit_code == 0


def test_folders_without_digests_are_not_checked(folder):
    fields = fields_of(folder)
    del fields["sha256"]
    (folder / files.MANIFEST).write_text(json.dumps(fields))
    graph = folder / files.TRAINING_MODEL
    graph.write_bytes(graph.read_bytes() + b"\xa2\x06\x00")
    assert fourbit("inspect", folder).exit_code == 0


OUTPUTS = {
    "loss_output": ("lost", files.TRAINING_MODEL),
    "metrics": ({"accuracy": "lost"}, files.TRAINING_MODEL),
    "gradients": ({"w": "lost", "b": "b_grad", "alpha": "alpha_grad"}, files.TRAINING_MODEL),
    "skip": ("lost", files.TRAINING_MODEL),
    "outputs": (["lost"], files.EVAL_MODEL),
    "updates": ({"w": "lost", "b": "b_new", "alpha": "alpha_new"}, files.OPTIMIZER_MODEL),
    "moments": ({"w_momentum": "lost"}, files.OPTIMIZER_MODEL),
}


@pytest.mark.parametrize("field", OUTPUTS)
def test_an_output_that_a_graph_lacks(tmp_path, field):
    """In folders that were converted before there were digests, too."""
    folder = write(tmp_path, clip=True)
    value, graph = OUTPUTS[field]
    (folder / files.MANIFEST).write_text(json.dumps(fields_of(folder) | {field: value}))
    with pytest.raises(ArtifactError) as caught:
        Trainer(folder)
    assert str(caught.value) == (
        f"{folder / files.MANIFEST} names an output 'lost' that {graph} lacks; "
        f"{REPLACE.format(files.MANIFEST)}"
    )


def test_an_output_that_the_calibration_lacks(tmp_path):
    folder = write(tmp_path, clip=True)
    (folder / files.MANIFEST).write_text(json.dumps(fields_of(folder) | {"clips": {"alpha": "lost"}}))
    with pytest.raises(ArtifactError, match=r"names an output 'lost' that calibration_model\.onnx lacks; "):
        Trainer(folder).step(data().arrays, learning_rate=0.1)


@pytest.mark.parametrize("field", ["clips", "moments", "quantizer_state", "buffers"])
def test_a_state_that_the_checkpoint_lacks(tmp_path, field):
    folder = write(tmp_path, clip=True)
    made = {"clips": "alpha_first", "moments": "w_momentum_new"}.get(field, "loss")
    (folder / files.MANIFEST).write_text(json.dumps(fields_of(folder) | {field: {"lost": made}}))
    with pytest.raises(ArtifactError) as caught:
        Trainer(folder)
    assert str(caught.value) == (
        f"{folder / files.MANIFEST} names 'lost', which the checkpoint lacks; "
        f"{REPLACE.format(files.MANIFEST)}"
    )
