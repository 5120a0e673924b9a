"""``fourbit export``: what it says, writes and never overwrites; the comparison comes before the file."""

import shutil

import numpy as np
import onnx
import pytest
from cli import fourbit, full_disk, listing, mlp, refusal, trained, write

from fourbit_onnx import export
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.runtime import agreement, folding


def exported(path):
    """A model that was exported earlier, of other weights than ``export`` would write now."""
    path.write_bytes(export(trained(), path, weights="float").SerializeToString())
    return path


def exists(path):
    return f"{path} exists; choose another file, or overwrite it with --force (overwrite=True)"


def foreign(path):
    return (
        f"{path} exists and is not a model that fourbit exported, so it is not overwritten; "
        "choose another file"
    )


def test_a_file_that_exists_is_not_overwritten(tmp_path):
    source, before = tmp_path / "source.onnx", exported(tmp_path / "before.onnx")
    shutil.copy(mlp(), source)
    (tmp_path / "link.onnx").symlink_to(source)
    kept = listing(tmp_path)
    for path in (source, before, tmp_path / "link.onnx"):
        said = exists(path) if path == before else foreign(path)
        assert refusal("export", trained(), "-o", path) == said
        with pytest.raises(ArtifactError) as refused:
            export(trained(), path)
        assert str(refused.value) == said
    assert listing(tmp_path) == kept


def test_force_replaces_what_was_exported_before(tmp_path):
    before, empty = exported(tmp_path / "before.onnx"), tmp_path / "empty.onnx"
    empty.touch()  # as of mktemp
    for path in (before, empty):
        assert fourbit("export", trained(), "-o", path, "--force").exit_code == 0
        kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
        assert onnx.TensorProto.INT4 in kinds
    export(trained(), before, weights="int8", overwrite=True)
    assert before.read_bytes() != empty.read_bytes()


def test_force_replaces_nothing_else(tmp_path):
    """As convert: not the source model, not a graph of an artifact folder, no text, no folder."""
    folder = tmp_path / "out"
    shutil.copytree(trained(), folder)
    shutil.copy(mlp(), tmp_path / "source.onnx")
    (tmp_path / "thesis.txt").write_text("years of work")
    kept = listing(tmp_path)
    for name in ("source.onnx", "out/eval_model.onnx", "out/training_model.onnx", "thesis.txt"):
        for force in ([], ["--force"]):  # nor is it advised
            assert refusal("export", folder, "-o", tmp_path / name, *force) == foreign(tmp_path / name)
    with pytest.raises(ArtifactError) as refused:
        export(folder, folder, overwrite=True)
    assert str(refused.value) == foreign(folder)
    assert listing(tmp_path) == kept


def test_folders_above_the_file_are_made(tmp_path):
    """As those above the folder that convert writes."""
    assert fourbit("export", trained(), "-o", tmp_path / "a" / "b" / "m.onnx").exit_code == 0
    assert fourbit("convert", mlp(), "-o", tmp_path / "c" / "d" / "out").exit_code == 0


def test_full_disk_leaves_the_old_export(tmp_path):
    file = exported(tmp_path / "model.onnx")
    kept = listing(tmp_path)
    with full_disk():
        said = refusal("export", trained(), "-o", file, "--force")
    assert said == f"cannot write {file}: File too large; nothing was left behind: remove the cause"
    assert listing(tmp_path) == kept


@pytest.mark.parametrize("weights", ["int4", "int8", "float"])
def test_export_checks_itself(tmp_path, weights):
    file = tmp_path / "model.onnx"
    result = fourbit("export", trained(), "-o", file, "--weights", weights, "--check", "digits")
    assert result.exit_code == 0
    first, then = result.stdout.splitlines()
    assert first.startswith(f"{file}: ")
    assert "360 of 360 predictions the same" in then
    kinds = {tensor.data_type for tensor in onnx.load(file).graph.initializer}
    assert (onnx.TensorProto.INT4 in kinds) == (weights == "int4")


@pytest.mark.parametrize("force", [False, True])
def test_a_difference_leaves_all_as_it_was(tmp_path, monkeypatch, force):
    """The check is no decoration: weights that are not those of the folder are noticed, and not written."""
    file = tmp_path / "m.onnx"
    if force:
        exported(file)
    kept, real = listing(tmp_path), folding.fold_weights

    def wrong(graph, model, state):
        changed = {name: tensor * 2 if tensor.ndim > 1 else tensor for name, tensor in state.items()}
        return real(graph, model, changed)

    monkeypatch.setattr(folding, "fold_weights", wrong)
    said = refusal("export", trained(), "-o", file, "--check", "digits", *["--force"] * force)
    assert said.startswith(
        f"the model does not compute what {trained()} computes, so {file} is not written; please report "
        f"this, with: on plain onnxruntime, against {trained()}: "
    )
    assert listing(tmp_path) == kept


def test_data_that_does_not_fit_leaves_no_file(tmp_path):
    bad = write(tmp_path / "bad.npz", image=np.zeros((4, 3, 8, 8), np.float32), labels=np.zeros(4, np.int64))
    kept = listing(tmp_path)
    for data, code in ((bad, 1), (tmp_path / "no.npz", 2), ("digts", 2)):
        refusal("export", trained(), "-o", tmp_path / "m.onnx", "--check", data, code=code)
    said = refusal("export", trained(), "-o", tmp_path / "m.onnx", "--key", "image=x", code=2)
    assert said == "--key is for the data of --check"
    assert listing(tmp_path) == kept


def test_a_model_that_onnxruntime_cannot_load(tmp_path):
    from fourbit_onnx.runtime.trainer import Trainer

    with pytest.raises(ArtifactError, match=r"m\.onnx cannot be loaded by onnxruntime \("):
        agreement.compare(Trainer(trained()), b"no model", {}, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (1, "20 samples, without classes to predict; without its optimiser, "),
        (2, "20 of 20 predictions the same"),
    ],
)
def test_what_a_prediction_is(tmp_path, size, said):
    """One number a sample has no largest one among several; a comparison of these would always be good."""
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x) => (float[N,{size}] y)
        <float[2,{size}] w = {{{", ".join(["1"] * 2 * size)}}}> {{ y = MatMul (x, w) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    folder, data, rng = tmp_path / "out", tmp_path / "d.npz", np.random.default_rng(0)
    np.savez(data, x=rng.normal(size=(20, 2)), labels=rng.normal(size=(20, size)))
    options = ("--recipe", "fp32", "--loss", "mse")
    assert fourbit("convert", tmp_path / "m.onnx", "-o", folder, *options).exit_code == 0
    assert (
        fourbit("train", folder, "--data", data, "--epochs", 1, "--batch-size", 20, "--quiet").exit_code == 0
    )
    result = fourbit("export", folder, "-o", tmp_path / "e.onnx", "--check", data)
    assert result.exit_code == 0, result.stderr
    assert f"against {folder}: {said}" in result.stdout
