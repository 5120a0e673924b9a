"""A run that was stopped and resumed is, to the bit, the run that was not; the same seed twice, too."""

import os
import signal
import threading

import numpy as np
import pytest
from artifact_folder import data, same, write

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.errors import DataError, TrainingError
from fourbit_onnx.runtime.trainer import Trainer

VARIANTS = [{}, {"clip": True}, {"buffer": True}, {"skip": True}, {"quantizer": True}]
RUN = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "schedule": "cosine", "seed": 5}
STEPS = 21  # 3 epochs of 50 samples in batches of 8


def trainer(folder):
    return Trainer(folder, threads=1, native=False)


class Stopping:
    """Arrays in batches, with Ctrl-C pressed while batch ``at`` of the whole run is trained on."""

    def __init__(self, arrays, at):
        self.arrays, self.left = arrays, at

    def __call__(self, epoch):
        order = np.random.default_rng(epoch).permutation(len(self.arrays.x))
        for start in range(0, len(order), 8):
            rows = order[start : start + 8]
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            self.left -= 1
            yield self.arrays.x[rows], self.arrays.labels[rows]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_same_seed_twice(tmp_path, variant):
    states = []
    for number in range(2):
        one = trainer(write(tmp_path / str(number), **variant))
        one.fit(data().arrays, **RUN, evaluation=data(20, seed=2).arrays)
        states.append(one.state)
    assert same(*states)
    other = trainer(write(tmp_path / "other", **variant))
    other.fit(data().arrays, **{**RUN, "seed": 6})
    assert not np.array_equal(other.state.tensors["w"], states[0].tensors["w"])


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("stop", [1, 6, 7, 8, 20])
def test_stopped_and_resumed(tmp_path, variant, stop, monkeypatch):
    held_out = data(20, seed=2).arrays
    whole = trainer(write(tmp_path / "whole", **variant))
    whole_history = whole.fit(data().arrays, **RUN, evaluation=held_out)

    folder = write(tmp_path / "parts", **variant)
    first = trainer(folder)
    stop_after(monkeypatch, first, stop)
    history = first.fit(data().arrays, **RUN, evaluation=held_out)
    assert history.interrupted
    assert history.step == stop
    assert len(history.epochs) == stop // 8  # of 7 batches; after the 7th the evaluation is still to come

    second = trainer(folder)
    assert same(second.state, first.state)
    history = second.fit(data().arrays, **RUN, evaluation=held_out, resume=True)
    assert not history.interrupted
    assert len(history.losses) == STEPS - stop
    assert same(second.state, whole.state)
    assert same(checkpoint.read(folder), whole.state)
    assert history.epochs == whole_history.epochs
    assert history.best == whole_history.best


def stop_after(monkeypatch, one, steps):
    """Press Ctrl-C during step number ``steps``."""
    advance = one._engine.advance

    def pressing(batch, rate):
        if one.state.progress.step + 1 == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(batch, rate)

    monkeypatch.setattr(one._engine, "advance", pressing)


@pytest.mark.parametrize("every", [1, 4, 5])
def test_killed_and_resumed_from_the_last_checkpoint(tmp_path, monkeypatch, every):
    whole = trainer(write(tmp_path / "whole", clip=True))
    whole.fit(data().arrays, **RUN, checkpoint_every=every)

    class Killed(BaseException):
        pass

    folder = write(tmp_path / "parts", clip=True)
    first = trainer(folder)
    advance = first._engine.advance

    def dying(batch, rate):
        if first.state.progress.step == 10:
            raise Killed
        return advance(batch, rate)

    monkeypatch.setattr(first._engine, "advance", dying)
    with pytest.raises(Killed):
        first.fit(data().arrays, **RUN, checkpoint_every=every)
    second = trainer(folder)
    assert second.state.progress.step == {1: 10, 4: 8, 5: 10}[every]
    second.fit(data().arrays, **RUN, checkpoint_every=every, resume=True)
    assert same(second.state, whole.state)


@pytest.mark.parametrize("stop", [0, 3, 6, 7, 12])
def test_iterable_stopped_and_resumed(tmp_path, stop):
    arrays = data()
    options = {"epochs": 2, "learning_rate": 0.05}
    whole = trainer(write(tmp_path / "whole", clip=True))
    whole.fit(Stopping(arrays, -1), **options)
    folder = write(tmp_path / "parts", clip=True)
    history = trainer(folder).fit(Stopping(arrays, stop), **options)
    assert history.interrupted
    second = trainer(folder)
    second.fit(Stopping(arrays, -1), **options, resume=True)
    assert same(second.state, whole.state)


def test_interrupted_evaluation_is_done_again(tmp_path):
    """Its result is that of all the data, not of the part before Ctrl-C."""
    arrays = data()
    whole = trainer(write(tmp_path / "whole"))
    whole.fit(arrays.arrays, **RUN, evaluation=Stopping(arrays, -1))
    folder = write(tmp_path / "parts")
    evaluation = Stopping(arrays, 9)
    history = trainer(folder).fit(arrays.arrays, **RUN, evaluation=evaluation)
    assert evaluation.left == -1  # the four batches behind were not waited for
    assert (history.interrupted, history.step, len(history.epochs)) == (True, 14, 1)
    second = trainer(folder)
    second.fit(arrays.arrays, **RUN, evaluation=Stopping(arrays, -1), resume=True)
    assert same(second.state, whole.state)


def test_second_interrupt_while_the_data_is_waited_for(tmp_path):
    """The state that is saved is that after a whole step."""

    def stuck(epoch):
        yield from list(Stopping(data(), -1)(epoch))[:3]
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one was not heard")

    folder = write(tmp_path / "out")
    history = trainer(folder).fit(stuck, epochs=2, learning_rate=0.05)
    assert history.interrupted
    assert checkpoint.read(folder).progress.step == checkpoint.read(folder).progress.position == 3


def test_ctrl_c_is_an_exception_again_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    trainer(write(tmp_path / "out")).fit(data().arrays, **RUN)
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread(tmp_path):
    """Where no signal handler can be set."""
    one = trainer(write(tmp_path / "out"))
    thread = threading.Thread(target=one.fit, args=(data().arrays,), kwargs=RUN)
    thread.start()
    thread.join()
    assert one.state.progress.step == STEPS


def test_resuming_a_finished_run_does_nothing(tmp_path):
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **RUN)
    before = one.state
    history = one.fit(data().arrays, **RUN, resume=True)
    assert (history.step, history.losses, len(history.epochs)) == (STEPS, [], 3)
    assert same(one.state, before)


def test_more_epochs(tmp_path, caplog):
    """With a constant rate, three epochs and then three more are six."""
    constant = {**RUN, "schedule": "constant"}
    whole = trainer(write(tmp_path / "whole"))
    whole.fit(data().arrays, **{**constant, "epochs": 6})
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **constant)
    one.fit(data().arrays, **{**constant, "epochs": 6}, resume=True)
    assert same(one.state, whole.state)
    assert caplog.messages == ["resumed with epochs 6; it was 3"]


def test_trained_folder_is_not_trained_again_by_mistake(tmp_path):
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **RUN)
    with pytest.raises(TrainingError) as caught:
        one.fit(data().arrays, **RUN)
    assert str(caught.value) == (
        f"{tmp_path}/out has been trained for 21 steps; go on with --resume (resume=True), or make a fresh "
        "folder with fourbit convert"
    )


@pytest.mark.parametrize(
    ("change", "samples", "message"),
    [
        ({"batch_size": 10}, 50, "with batch_size 10: the run began with 8; "),
        ({"seed": 1}, 50, "with seed 1: the run began with 5; "),
        ({}, 49, "with samples 49: the run began with 50; "),
    ],
)
def test_resuming_with_other_data(tmp_path, change, samples, message):
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **{**RUN, "epochs": 1})
    with pytest.raises(TrainingError) as caught:
        one.fit(data(samples).arrays, **{**RUN, **change}, resume=True)
    assert str(caught.value) == (
        f"cannot resume {tmp_path}/out {message}resume with that, or make a fresh folder with fourbit convert"
    )


def test_resuming_with_other_values(tmp_path):
    """As many samples, of which one differs: in the input or in its label."""
    one, before = trainer(write(tmp_path / "out")), data()
    one.fit(before.arrays, **{**RUN, "epochs": 1})
    state = one.state
    x, labels = before.x.copy(), before.labels.copy()
    x[-1, -1] += 1
    labels[-1] = (labels[-1] + 1) % 3
    for changed in ({"x": x}, {"labels": labels}):
        with pytest.raises(TrainingError) as caught:
            one.fit(before.arrays | changed, **RUN, resume=True)
        assert str(caught.value) == (
            f"cannot resume {tmp_path}/out with other data, though there is as much of it: resume with the "
            "data that the run began with, or make a fresh folder with fourbit convert"
        )
    assert same(one.state, state)
    assert same(checkpoint.read(tmp_path / "out"), state)


def test_resuming_with_the_same_data_in_another_form(tmp_path):
    """Another type of the labels, another order in memory, a file that is mapped into memory."""
    one, other, before = trainer(write(tmp_path / "out")), trainer(write(tmp_path / "other")), data()
    one.fit(before.arrays, **{**RUN, "epochs": 1})
    other.state = one.state
    np.save(tmp_path / "x.npy", np.asfortranarray(before.x))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    one.fit((mapped, before.labels.astype(np.int32)), **RUN, resume=True)
    other.fit(before.arrays, **RUN, resume=True)
    assert same(one.state, other.state)


def test_resuming_a_run_that_kept_no_digest(tmp_path):
    """A checkpoint of before goes on, and has one from then on."""
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **{**RUN, "epochs": 1})
    state = one.state
    kept = state.progress.settings.pop("data")
    one.state = state
    one.fit(data().arrays, **{**RUN, "epochs": 2}, resume=True)
    assert one.state.progress.settings["data"] == kept
    with pytest.raises(TrainingError, match="with other data"):
        one.fit(data(seed=1).arrays, **RUN, resume=True)


NONE, SOME, OTHER = None, data(20, seed=2).arrays, data(20, seed=3).arrays


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        (NONE, NONE, []),
        (SOME, SOME, []),
        (SOME, NONE, ["resumed without evaluation data (--eval, evaluation=...), with which the run began"]),
        (NONE, SOME, ["resumed with evaluation data; the run began without"]),
        (
            SOME,
            OTHER,
            ["resumed with other evaluation data than the run began with: its epochs cannot be compared"],
        ),
        (SOME, Stopping(data(), -1), []),  # batches that are not known before they come
    ],
)
def test_resuming_with_other_evaluation_data(tmp_path, caplog, first, then, said):
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **{**RUN, "epochs": 1}, evaluation=first)
    caplog.clear()
    trainer(tmp_path / "out").fit(data().arrays, **RUN, evaluation=then, resume=True)
    assert [message for message in caplog.messages if "epochs 3" not in message] == said


def test_resuming_a_run_that_kept_no_digest_of_the_evaluation(tmp_path, caplog):
    one = trainer(write(tmp_path / "out"))
    one.fit(data().arrays, **{**RUN, "epochs": 1}, evaluation=SOME)
    state = one.state
    del state.progress.settings["evaluation"]
    one.state = state
    one.fit(data().arrays, **{**RUN, "epochs": 2}, resume=True)
    assert caplog.messages == ["resumed with epochs 2; it was 1"]


def test_resuming_with_data_that_ended(tmp_path):
    folder = write(tmp_path / "out")
    trainer(folder).fit(Stopping(data(), 4), epochs=1, learning_rate=0.1)
    with pytest.raises(DataError, match="the data has 2 batches, but the checkpoint was saved after batch 5"):
        trainer(folder).fit(iter(list(Stopping(data(), -1)(0))[:2]), epochs=1, learning_rate=0.1, resume=True)


def test_damaged_checkpoint_goes_back_one_save(tmp_path, caplog):
    whole = trainer(write(tmp_path / "whole"))
    whole.fit(data().arrays, **RUN)
    folder = write(tmp_path / "out")
    trainer(folder).fit(data().arrays, **{**RUN, "epochs": 3})
    path = folder / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    again = trainer(folder)
    assert again.state.progress.epoch == 2
    assert "state.safetensors is damaged" in caplog.text
    again.fit(data().arrays, **RUN, resume=True)
    assert same(again.state, whole.state)
