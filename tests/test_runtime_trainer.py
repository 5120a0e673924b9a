"""The trainer on hand-written artifact folders: numbers, refusals."""

import subprocess
import sys

import numpy as np
import pytest
from artifact_folder import data, same, write

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.errors import DataError, TrainingError
from fourbit_onnx.runtime.metrics import better
from fourbit_onnx.runtime.schedules import Cosine
from fourbit_onnx.runtime.trainer import Trainer


def by_hand(arrays, rate, steps):
    """Softmax regression with momentum 0.9 and bias correction, in float64: parameters and losses."""
    x, labels = arrays.x.astype(np.float64), arrays.labels
    w, b, w_m, b_m, losses = np.zeros((4, 3)), np.zeros(3), 0.0, 0.0, []
    for step in range(1, steps + 1):
        scores = x @ w + b
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(x)), labels]).mean())
        d = (p - np.eye(3)[labels]) / len(x)
        w_m, b_m = 0.9 * w_m + x.T @ d, 0.9 * b_m + d.sum(0)
        corrected = rate / (1 - 0.9**step)
        w, b = w - corrected * w_m, b - corrected * b_m
    return w, b, losses


def test_ten_steps_against_the_formula(trainer):
    arrays = data()
    w, b, losses = by_hand(arrays, 0.05, 10)
    found = [trainer.step((arrays.x, arrays.labels), learning_rate=0.05)["loss"] for _ in range(10)]
    # float32 against float64: ten steps, each within some units of 2**-24 of numbers of order 1
    np.testing.assert_allclose(found, losses, rtol=5e-6)
    np.testing.assert_allclose(trainer.state.tensors["w"], w, atol=5e-6)
    np.testing.assert_allclose(trainer.state.tensors["b"], b, atol=5e-6)
    assert trainer.state.progress.step == trainer.state.progress.updates == 10


def test_fit_learns_and_says_so(trainer):
    train, held_out = data(300), data(90, seed=1)
    history = trainer.fit(
        train.arrays,
        epochs=3,
        batch_size=32,
        learning_rate=0.05,
        schedule=Cosine(warmup=5),
        evaluation=held_out.arrays,
    )
    assert [record["epoch"] for record in history.epochs] == [0, 1, 2]
    assert list(history.epochs[0]) == [
        "epoch", "loss", "accuracy", "learning_rate", "skipped", "eval_loss", "eval_accuracy",
    ]  # fmt: skip
    assert history.epochs[-1]["eval_accuracy"] > 0.8  # guessing gives a third
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] < np.log(3)
    assert len(history.losses) == history.step == 30
    assert history.losses[0] == pytest.approx(
        np.log(3), rel=4 * 2.0**-24
    )  # zero weights: all classes alike; a logarithm in float32, and a mean of equal numbers
    assert not history.interrupted
    factors = [Cosine(warmup=5).factor(last, 30) for last in (9, 19, 29)]  # of the last step of each epoch
    assert [record["learning_rate"] for record in history.epochs] == [0.05 * factor for factor in factors]
    best = max(history.epochs, key=lambda record: record["eval_accuracy"])
    assert history.best == {"metric": "accuracy", "value": best["eval_accuracy"], "epoch": best["epoch"]}
    last = history.epochs[-1]["eval_loss"]
    assert trainer.evaluate(held_out.arrays, 32)["loss"] == last
    assert trainer.evaluate(held_out.arrays, 90)["loss"] == pytest.approx(
        last, rel=16 * 2.0**-24
    )  # means of at most 90 numbers of float32: of roundings at random, sqrt(90), and some more


def test_the_first_of_equal_evaluations_is_the_best():
    for metric in ("accuracy", "loss"):
        assert not better(metric, 0.5, 0.5)
        assert better(metric, 0.75, 0.5) != better(metric, 0.25, 0.5)
        assert better(metric, 0.75, 0.5) == (metric == "accuracy")


def test_loss_of_an_epoch_is_the_mean_over_its_samples(trainer):
    history = trainer.fit(data(50).arrays, epochs=3, batch_size=20, learning_rate=0.1)
    # Of positive numbers in float64 a product, two sums and a quotient, here and there: eight roundings.
    losses = np.reshape(history.losses, (3, 3)) @ [20, 20, 10] / 50
    np.testing.assert_allclose([record["loss"] for record in history.epochs], losses, rtol=8 * 2.0**-53)


def test_evaluation_weighs_samples_not_batches(trainer):
    arrays = data(50)
    trainer.step(arrays.arrays, learning_rate=1)
    whole = trainer.evaluate(arrays.arrays, 50)
    # each batch's mean is a float32 below 1, off by 2**-25; a batch more or less would be 2 % off
    assert trainer.evaluate(arrays.arrays, 7)["accuracy"] == pytest.approx(whole["accuracy"], abs=2.0**-24)
    before = trainer.state
    trainer.evaluate(arrays.arrays, 7)
    assert same(trainer.state, before)


def test_calibration_is_the_mean_over_the_first_batches(tmp_path):
    trainer = Trainer(write(tmp_path / "out", clip=True), threads=1, native=False)
    arrays = data(40)
    batches = [(arrays.x[i : i + 10], arrays.labels[i : i + 10]) for i in range(0, 40, 10)]
    trainer.fit(iter(batches), epochs=1, learning_rate=1e-30, calibration_batches=3, checkpoint_every=0)
    wanted = np.mean([np.abs(x).max() for x, _ in batches[:3]], dtype=np.float64)
    assert trainer.state.tensors["alpha"] == np.float32(wanted)
    assert trainer.state.progress.step == 4


def test_calibration_happens_once(tmp_path):
    folder = write(tmp_path / "out", clip=True)
    trainer = Trainer(folder, threads=1, native=False)
    state = trainer.state
    state.tensors["alpha"][...] = 0.25
    trainer.state = state
    trainer.step(data().arrays, learning_rate=1e-30)
    assert trainer.state.tensors["alpha"] == 0.25


def test_no_calibration_of_a_run_that_has_ended(tmp_path):
    trainer = Trainer(write(tmp_path / "out", clip=True), threads=1, native=False)
    trainer.fit(data().arrays, epochs=1, batch_size=10, learning_rate=0.1)
    state = trainer.state
    state.tensors["alpha"][...] = 0  # as if it had never been set
    trainer.state = state
    trainer.fit(data().arrays, epochs=1, batch_size=10, learning_rate=0.1, resume=True)
    assert same(trainer.state, state)


def test_clip_of_a_layer_that_gives_zeros(tmp_path):
    trainer = Trainer(write(tmp_path / "out", clip=True), threads=1, native=False)
    arrays = data()
    trainer.step((np.zeros_like(arrays.x), arrays.labels), learning_rate=1e-30)
    assert trainer.state.tensors["alpha"] == np.float32(1e-6)


def test_evaluation_before_calibration(tmp_path):
    folder = write(tmp_path / "out", clip=True)
    with pytest.raises(TrainingError) as caught:
        Trainer(folder, native=False).evaluate(data().arrays, 8)
    assert str(caught.value) == (
        f"{folder} has not been trained: 1 PACT clips ('alpha' is the first) get their values from the "
        "first training batches; train first"
    )


def test_buffers_are_fed_back(tmp_path):
    trainer = Trainer(write(tmp_path / "out", buffer=True), threads=1, native=False)
    arrays = data()
    mean = np.zeros(4)
    for _ in range(3):
        trainer.step(arrays.arrays, learning_rate=0.1)
        mean = 0.9 * mean + 0.1 * arrays.x.mean(0)
    # means of 50 numbers, of either sign, and three operations for each of three steps
    np.testing.assert_allclose(trainer.state.tensors["mean"], mean, rtol=(50 + 9) * 2.0**-24)


DIVERGED = (
    "training has diverged, or the data is far from what the model was trained on; lower the learning rate "
    "or warm it up, and train again"
)


def test_an_evaluation_whose_loss_is_not_finite(trainer):
    state = trainer.state
    state.tensors["b"][1] = np.inf
    trainer.state = state
    with pytest.raises(TrainingError) as caught:
        trainer.evaluate(data().arrays, 50)
    assert str(caught.value) == f"evaluation: the loss is nan: {DIVERGED}"


def test_a_last_evaluation_whose_loss_is_not_finite(trainer):
    """One before may be: running statistics catch up. The checkpoint stays that of the epoch before."""
    far = data().arrays
    far["x"][...] = 3e38
    state = trainer.state
    state.tensors["w"][...] = 10
    trainer.state = state
    with pytest.raises(TrainingError) as caught:
        trainer.fit(data().arrays, evaluation=far, epochs=2, batch_size=25, learning_rate=0.1)
    assert str(caught.value) == f"evaluation after epoch 2: the loss is nan: {DIVERGED}"
    assert checkpoint.read(trainer.folder).progress.epoch == 1


@pytest.mark.parametrize(("bias", "loss"), [(np.inf, "nan"), (-np.inf, "inf")])
def test_loss_that_is_not_finite(trainer, bias, loss):
    state = trainer.state
    state.tensors["b"][1] = bias
    trainer.state = state
    with pytest.raises(TrainingError) as caught:
        trainer.step(data().arrays, learning_rate=0.1)
    assert str(caught.value) == (
        f"step 1: the loss is {loss} (learning rate 0.1); lower the learning rate or warm it up, and resume "
        "from the last checkpoint"
    )
    assert same(trainer.state, state)
    state.progress.updates = 1
    trainer.state = state
    said = (
        rf"^training diverged at step 1 \(learning rate 0.1\): the loss is {loss}; lower the learning rate or"
    )
    with pytest.raises(TrainingError, match=said):
        trainer.step(data().arrays, learning_rate=0.1)


def test_fixed_batch(tmp_path, caplog):
    trainer = Trainer(write(tmp_path / "out", batch=8), threads=1, native=False)
    history = trainer.fit(data(50).arrays, epochs=1, learning_rate=0.01)
    assert history.step == 6
    trainer.evaluate(data(16).arrays)
    assert caplog.messages == ["2 of 50 samples are left out of every epoch: the model takes 8 at a time"]
    with pytest.raises(DataError) as caught:
        trainer.evaluate(data(50).arrays, 4)
    assert str(caught.value) == (
        "batch size 4: the model takes 8 samples at a time; use that, or convert a model with a free "
        "batch axis"
    )


def test_label_out_of_range(trainer):
    arrays = data(8)
    arrays.labels[5] = 3
    for call in (
        lambda: trainer.fit(arrays.arrays, epochs=1, batch_size=4, learning_rate=0.1),
        lambda: trainer.evaluate(arrays.arrays, 4),
        lambda: trainer.step(arrays.arrays, learning_rate=0.1),
    ):
        with pytest.raises(DataError, match=r"^label out of range: labels\[5\] is 3, the model has 3"):
            call()
    assert trainer.state.progress.step == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "0 epochs; at least 1 is needed"),
        ({"learning_rate": -1.0}, "learning rate -1.0; it is a positive number, such as 0.1"),
        ({"learning_rate": float("nan")}, "learning rate nan; it is a positive number, such as 0.1"),
        ({"seed": -1}, "seed -1; it is 0 or more"),
        ({"checkpoint_every": -1}, "a checkpoint every -1 steps; 0 is never"),
        ({"calibration_batches": 0}, "0 calibration batches; at least 1 is needed"),
        ({"schedule": "linear"}, "no schedule 'linear'; there are: constant, cosine, step"),
    ],
)
def test_numbers_that_make_no_sense(trainer, options, message):
    with pytest.raises(TrainingError) as caught:
        trainer.fit(data().arrays, **{"epochs": 1, "batch_size": 4, "learning_rate": 0.1, **options})
    assert str(caught.value) == message


def test_threads_that_make_no_sense(tmp_path):
    with pytest.raises(TrainingError, match=r"^0 threads; at least 1 is needed$"):
        Trainer(write(tmp_path / "out"), threads=0, native=False)


def test_schedule_that_needs_a_length_refuses_before_training(trainer):
    stream = (batch for batch in [data().arrays])
    with pytest.raises(TrainingError, match="needs the number of steps, but the data has no length"):
        trainer.fit(stream, epochs=1, learning_rate=0.1, schedule="cosine")
    assert len(list(stream)) == 1


def test_data_loader(tmp_path):
    """Batches from PyTorch, with workers' tensors, give what the same arrays give."""
    torch = pytest.importorskip("torch")
    arrays = data(30)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(arrays.x), torch.from_numpy(arrays.labels))
    loader = torch.utils.data.DataLoader(dataset, batch_size=8)
    pairs = [(arrays.x[i : i + 8], arrays.labels[i : i + 8]) for i in range(0, 30, 8)]
    states = []
    for number, source in enumerate([loader, pairs]):
        trainer = Trainer(write(tmp_path / str(number), clip=True), threads=1, native=False)
        trainer.fit(source, epochs=2, learning_rate=0.1, schedule="cosine", evaluation=source)
        states.append(trainer.state)
    assert same(*states)
    assert states[0].progress.step == 8


def test_package_stays_light():
    code = "import sys, fourbit_onnx; print({'numpy', 'onnx', 'onnxruntime', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
