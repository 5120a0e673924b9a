"""Steps that loss scaling skips: when a run goes on, and when it is refused."""

import numpy as np
import pytest
from artifact_folder import data, same, write

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.errors import TrainingError
from fourbit_onnx.runtime.evaluate import require_finite
from fourbit_onnx.runtime.metrics import LOST, SKIPPED, added, means, skipped
from fourbit_onnx.runtime.schedules import Cosine
from fourbit_onnx.runtime.trainer import Trainer


def test_steps_with_gradients_that_are_not_finite_are_skipped(tmp_path):
    """Running statistics, which may have seen an infinity, stay as they were, too."""
    trainer = Trainer(write(tmp_path / "out", skip=True, buffer=True), threads=1, native=False)
    before = trainer.state.tensors
    assert trainer.step(data().arrays, learning_rate=0.1)["skipped"] == 1
    after = trainer.state
    assert after.tensors["loss_scale"] == before["loss_scale"] / 2
    assert all((after.tensors[name] == before[name]).all() for name in before if name != "loss_scale")
    assert (after.progress.step, after.progress.updates) == (1, 0)
    history = trainer.fit(data().arrays, epochs=1, batch_size=5, learning_rate=0.01, resume=True)
    progress = trainer.state.progress
    assert history.epochs[0]["skipped"] == progress.step - progress.updates - 1 > 0
    assert progress.updates > 0


def test_no_step_that_is_not_skipped(tmp_path):
    trainer = Trainer(write(tmp_path / "out", skip=True), threads=1, native=False)
    state = trainer.state
    state.tensors["loss_scale"][...] = 1e38
    trainer.state = state
    with pytest.raises(TrainingError) as caught:
        trainer.fit(data(300).arrays, epochs=2, batch_size=5, learning_rate=0.5)
    assert str(caught.value) == (
        "step 50: the gradients were not finite 50 times in a row, whatever the loss scale; lower the "
        "learning rate, and resume from the last checkpoint"
    )
    state.progress.updates = 1
    trainer.state = state
    with pytest.raises(
        TrainingError, match=r"^training diverged at step 50 \(learning rate 0.5\): the gradients"
    ):
        trainer.fit(data(300).arrays, epochs=2, batch_size=5, learning_rate=0.5)


def skipping(folder, **tensors):
    """A trainer with a loss scale whose state has these numbers, in its checkpoint too."""
    trainer = Trainer(write(folder, skip=True), threads=1, native=False)
    state = trainer.state
    for name, number in tensors.items():
        state.tensors[name][...] = number
    trainer.state = state
    trainer.save()
    return trainer


def test_a_skipped_step_is_no_update(tmp_path):
    """The correction of the first averages, a tenth at the first update, counts updates."""
    trainer = skipping(tmp_path / "out", loss_scale=2.0**20)
    trainer.step(data().arrays, learning_rate=0.1)
    state = trainer.state
    state.tensors["loss_scale"][...] = 1
    trainer.state = state
    trainer.step(data().arrays, learning_rate=0.1)
    other = skipping(tmp_path / "other", loss_scale=1)
    other.step(data().arrays, learning_rate=0.1)
    assert (trainer.state.progress.step, other.state.progress.step) == (2, 1)
    assert trainer.state.tensors["w"].any()
    for name, tensor in other.state.tensors.items():
        np.testing.assert_array_equal(trainer.state.tensors[name], tensor)


@pytest.mark.parametrize(("batch", "lost", "every"), [(10, "3 of 4", None), (2, "19 of 20", 2)])
def test_a_loss_that_is_lost_is_not_skipped_to_the_end(tmp_path, batch, lost, every):
    """After one step of this size, the weights are of order 1e37, the scores infinite. Such are not saved."""
    trainer = skipping(tmp_path / "out", loss_scale=1)
    before, arrays = trainer.state, data(40).arrays
    arrays["x"] *= 100
    with pytest.raises(TrainingError) as caught:
        trainer.fit(arrays, epochs=2, batch_size=batch, learning_rate=3e34, checkpoint_every=every)
    assert str(caught.value) == (
        f"training diverged at step {40 // batch} (learning rate 3e+34): epoch 1 ends with steps whose loss "
        f"is not finite, {lost}, which were skipped; lower the learning rate or warm it up, and resume from "
        "the last checkpoint"
    )
    assert same(checkpoint.read(trainer.folder), before)


def test_data_that_no_learning_rate_helps(tmp_path):
    arrays = data(40).arrays
    arrays["x"][...] = 3e38
    trainer = skipping(tmp_path / "out", w=10)
    with pytest.raises(TrainingError) as caught:
        trainer.fit(arrays, epochs=1, batch_size=40, learning_rate=0.1, schedule=Cosine())
    assert str(caught.value) == (
        "step 1: epoch 1 ends with steps whose loss is not finite, 1 of 1, which were skipped; the data or "
        "the first weights are too large for float16: rescale them"
    )


@pytest.mark.parametrize(
    ("batches", "refused"),
    [
        ("x", "1 of 1"),
        (".x", ""),
        (".xx", "2 of 3"),
        ("..xx", ""),
        ("xxxxx.xx", ""),  # only those at the end, in a row
        ("xx.x", ""),
        (49 * "x" + ".xx", ""),  # nor are steps that were skipped before counted with those after
        (11 * "." + 9 * "x", ""),
        (11 * "." + 10 * "x", "10 of 21"),
    ],
)
def test_how_many_losses_must_be_lost(tmp_path, batches, refused):
    """More than half of the epoch, or ten."""
    arrays = {".": data(8).arrays, "x": data(8, 1).arrays}
    arrays["x"]["x"][...] = 3e38
    trainer = skipping(tmp_path / "out", loss_scale=1, w=10)

    def fit():
        return trainer.fit(lambda epoch: [arrays[kind] for kind in batches], epochs=1, learning_rate=0.1)

    if refused:
        with pytest.raises(TrainingError, match=f"steps whose loss is not finite, {refused}, which"):
            fit()
    else:
        (record,) = fit().epochs
        assert record["skipped"] == batches.count("x")
        assert set(record) == {"epoch", "loss", "accuracy", "learning_rate", "skipped"}


def test_which_skipped_steps_are_lost():
    """Those since the last loss that was finite, whether that step was skipped or not."""
    totals = {}
    for loss, lost in ((np.inf, 1), (np.nan, 2), (-np.inf, 3), (1.5, 0), (np.nan, 1)):
        totals = skipped(totals, loss)
        assert totals[LOST] == lost
    totals = added(totals, {"loss": 2.0}, 4)
    assert LOST not in totals
    assert skipped(totals, np.nan) == {"loss": 8, "samples": 4, SKIPPED: 6, LOST: 1}
    assert means(skipped(totals, np.nan)) == {"loss": 2.0}


def test_what_an_evaluation_may_not_be():
    for loss in (np.nan, np.inf, -np.inf):
        with pytest.raises(TrainingError, match=f"^here: the loss is {loss}: "):
            require_finite({"loss": loss, "accuracy": 1.0}, "here")
    require_finite({"loss": 3e38, "accuracy": np.nan}, "here")
    require_finite({}, "here")  # of a data set of which nothing was evaluated


def test_an_outlying_batch_is_skipped(tmp_path, caplog):
    """Even if it is the last one of the epoch."""
    batches = [data(8, seed).arrays for seed in range(4)]
    batches[3]["x"][...] = 3e38
    trainer = skipping(tmp_path / "out", loss_scale=1, w=10)
    history = trainer.fit(lambda epoch: batches, epochs=2, learning_rate=0.1)
    assert [record["skipped"] for record in history.epochs] == [1, 1]
    assert np.isnan(history.losses[3])
    assert np.isfinite(history.epochs[1]["loss"])
    assert not caplog.text


def test_an_epoch_in_which_the_loss_scale_is_sought_goes_on(tmp_path, caplog):
    trainer = Trainer(write(tmp_path / "out", skip=True), threads=1, native=False)
    history = trainer.fit(data(40).arrays, epochs=10, batch_size=20, learning_rate=0.1)
    assert history.epochs[0]["skipped"] == 2
    assert "loss" not in history.epochs[0]
    assert "loss" in history.epochs[-1]
    assert caplog.messages[0] == (
        "epoch 1: all 2 steps were skipped, while loss scaling looks for its scale; nothing was learnt yet"
    )
