"""A checkpoint that cannot be saved: what is to be done about it depends on the cause."""

import errno
import os
import tempfile

import pytest
from artifact_folder import data, write
from cli import fourbit, listing, mlp, refusal

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.artifacts.state import State
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.runtime.trainer import Trainer

REMEDIES = {
    errno.EACCES: "make {} writable",
    errno.EPERM: "make {} writable",
    errno.EROFS: "make {} writable",
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.EIO: "remove the cause",
}


@pytest.mark.parametrize("number", REMEDIES)
def test_the_remedy_fits_the_cause(tmp_path, monkeypatch, number):
    def failing(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(ArtifactError) as caught:
        checkpoint.write(tmp_path, State({}))
    remedy = REMEDIES[number].format(tmp_path)
    assert str(caught.value).endswith(f"is untouched: {remedy}, then resume from it")
    checkpoint.check_place(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "TemporaryFile", failing)
    with pytest.raises(ArtifactError) as caught:
        checkpoint.check_place(tmp_path)
    assert str(caught.value) == (
        f"no checkpoint can be saved in {tmp_path} ({os.strerror(number)}): {remedy}, or train a copy of it"
    )


def test_a_read_only_folder_is_refused_before_training(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    assert fourbit("convert", mlp(), "-o", folder).exit_code == 0

    def denied(**place):
        assert place["dir"] == folder
        raise OSError(errno.EROFS, "Read-only file system")

    before = listing(folder)
    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    assert refusal("train", folder, "--data", "digits", "--quiet") == (
        f"no checkpoint can be saved in {folder} (Read-only file system): make {folder} writable, or train a "
        "copy of it"
    )
    assert listing(folder) == before


def test_a_read_only_folder_is_enough_where_no_checkpoint_is_saved(tmp_path, monkeypatch):
    """With ``checkpoint_every=0``, and when all epochs are done."""
    trainer = Trainer(write(tmp_path / "out"), threads=1, native=False)
    trainer.fit(data().arrays, epochs=1, batch_size=25, learning_rate=0.1)

    def denied(**place):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    with pytest.raises(ArtifactError, match="no checkpoint can be saved"):
        trainer.fit(data().arrays, epochs=2, batch_size=25, learning_rate=0.1, resume=True)
    history = trainer.fit(data().arrays, epochs=1, batch_size=25, learning_rate=0.1, resume=True)
    assert history.losses == []
    history = trainer.fit(
        data().arrays, epochs=2, batch_size=25, learning_rate=0.1, resume=True, checkpoint_every=0
    )
    assert len(history.losses) == len(data().arrays["x"]) // 25
