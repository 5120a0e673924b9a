"""The trainer's state: read, set, saved, refused."""

import dataclasses

import numpy as np
import pytest
from artifact_folder import data, same, write

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.errors import ArtifactError, TrainingError
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.trainer import Trainer


def test_checkpoint_of_another_model(tmp_path):
    folder = write(tmp_path / "out")
    state = checkpoint.read(folder)
    remedy = f"restore the checkpoint of {folder}, or make the folder again with fourbit convert"
    for name, array, message in (
        ("w", None, f"the checkpoint has no 'w'; {remedy}"),
        ("b", np.zeros(4, "f"), f"'b' is float32 (4,), the graph wants float32 (3,); {remedy}"),
        ("b_momentum", np.zeros(3), f"'b_momentum' is float64 (3,), the graph wants float32 (3,); {remedy}"),
    ):
        tensors = {key: value for key, value in state.tensors.items() if key != name or array is not None}
        if array is not None:
            tensors[name] = array
        checkpoint.write(folder, dataclasses.replace(state, tensors=tensors))
        with pytest.raises(ArtifactError) as caught:
            Trainer(folder, native=False)
        assert str(caught.value).endswith(message)


def test_evaluation_model_of_another_model(tmp_path):
    """Only it differs: before a run, not at its first evaluation, is the time to say so."""
    folder = write(tmp_path / "out")
    write(tmp_path / "other", buffer=True)
    (folder / "eval_model.onnx").write_bytes((tmp_path / "other" / "eval_model.onnx").read_bytes())
    with pytest.raises(ArtifactError, match=r"^the checkpoint has no 'mean'; restore the checkpoint of "):
        Trainer(folder, native=False)


@pytest.mark.parametrize(
    ("variant", "native", "warned"),
    [
        ({"quantizer": True}, True, True),
        ({"quantizer": True}, False, False),  # as asked for
        ({}, True, False),  # no operator of ours
        ({"skip": True}, True, False),
    ],
    ids=str,
)
def test_slow_runs_are_announced(tmp_path, monkeypatch, caplog, variant, native, warned):
    monkeypatch.setenv("FOURBIT_LIBRARY", "none")
    Trainer(write(tmp_path / "out", **variant), threads=1, native=native)
    assert caplog.messages == [library.describe()] * warned


def test_graph_that_is_damaged_or_missing(tmp_path):
    folder = write(tmp_path / "out")
    (folder / "eval_model.onnx").write_bytes(b"garbage")
    with pytest.raises(ArtifactError, match=r"eval_model\.onnx cannot be loaded \(.*[Pp]rotobuf parsing"):
        Trainer(folder, native=False)
    (folder / "training_model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"training_model\.onnx cannot be loaded \(.*exist"):
        Trainer(folder, native=False)


def test_state_is_a_copy(trainer):
    state = trainer.state
    state.tensors["w"][:] = 7
    state.progress.history.append({})
    assert not trainer.state.tensors["w"].any()
    assert not trainer.state.progress.history
    trainer.state = state
    state.tensors["w"][:] = 8
    state = trainer.state
    assert (state.tensors["w"] == 7).all()
    trainer.state.tensors["w"][:] = 9
    assert (trainer.state.tensors["w"] == 7).all()


def test_state_outlives_the_trainer(tmp_path):
    """ONNX Runtime's own ``numpy()`` gives a view of memory that is then freed."""
    states = []
    for number in range(5):
        trainer = Trainer(write(tmp_path / str(number), quantizer=True), threads=1, native=False)
        trainer.step(data().arrays, learning_rate=0.1)
        states.append(trainer.state)
        del trainer
    assert all(same(state, states[0]) for state in states)
    assert not states[0].tensors["b4"].any()


def test_save_and_load(trainer):
    trainer.step(data().arrays, learning_rate=0.1)
    trainer.save()
    assert same(Trainer(trainer.folder, native=False).state, trainer.state)


def test_nothing_is_written_when_told_so(trainer):
    before = checkpoint.read(trainer.folder)
    trainer.fit(data().arrays, epochs=2, batch_size=8, learning_rate=0.1, checkpoint_every=0)
    assert same(checkpoint.read(trainer.folder), before)


def test_after_an_epoch_comes_before_its_checkpoint(trainer):
    """So that what is noted there is never behind the checkpoint."""
    seen = []

    def after_epoch(epoch, record):
        saved = checkpoint.read(trainer.folder).progress.epoch
        seen.append((epoch, dict(record), trainer.state.progress.epoch, saved))

    arrays = data().arrays
    history = trainer.fit(
        arrays, epochs=3, batch_size=8, learning_rate=0.1, evaluation=arrays, after_epoch=after_epoch
    )
    assert seen == [(k, history.epochs[k], k + 1, k) for k in range(3)]


def test_what_is_raised_after_an_epoch_ends_the_run(trainer):
    def after_epoch(epoch, record):
        record.clear()  # a copy: the history keeps its own
        if epoch == 1:
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        trainer.fit(data().arrays, epochs=3, batch_size=8, learning_rate=0.1, after_epoch=after_epoch)
    saved = checkpoint.read(trainer.folder).progress
    assert (saved.epoch, len(saved.history)) == (1, 1)
    assert saved.history[0]["epoch"] == 0


def test_full_disk_in_a_run(trainer, monkeypatch):
    def full(path, arrays):
        raise OSError(28, "No space left on device")

    trainer.fit(data().arrays, epochs=1, batch_size=8, learning_rate=0.1)
    before = trainer.state
    monkeypatch.setattr("fourbit_onnx.artifacts.tensors.write", full)
    with pytest.raises(ArtifactError, match=r"No space left on device; .*the last checkpoint is untouched"):
        trainer.fit(data().arrays, epochs=2, batch_size=8, learning_rate=0.1, resume=True)
    assert same(checkpoint.read(trainer.folder), before)


def test_numbers_that_are_not_finite_are_not_saved(trainer):
    """The loss of a step is from before its update: what the last update broke shows in no loss."""
    folder, state = trainer.folder, trainer.state
    name = trainer.manifest.parameters[0]
    state.tensors[name].flat[0] = np.inf
    before = (folder / "checkpoint" / "state.json").read_bytes()
    trainer.state = state
    with pytest.raises(TrainingError, match=rf"step 0: '{name}' is no longer finite, so it is not saved"):
        trainer.save()
    assert (folder / "checkpoint" / "state.json").read_bytes() == before
