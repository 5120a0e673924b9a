"""A real 4-bit run that was stopped and resumed ends with the bits of the one that was not."""

import os
import signal

import numpy as np
import pytest

from fourbit_onnx.api import convert
from fourbit_onnx.data import digits
from fourbit_onnx.models import registry
from fourbit_onnx.runtime.trainer import Trainer

RECIPES = ("ibm2020", "ibm2020-learned-scale", "fp16")
RUN = {"batch_size": 32, "learning_rate": 0.1, "seed": 3, "progress": False}
BATCHES = 10  # an epoch


@pytest.fixture(scope="module")
def data():
    """300 digits in 10 batches, the last one smaller, and 100 to evaluate on."""
    held = digits.load()
    return tuple({key: part[:count] for key, part in source.items()}
                 for source, count in ((held.train, 300), (held.test, 100)))  # fmt: skip


def folder(path, recipe):
    model = registry.build("resnet8", input_shape=(1, 8, 8), width=8, seed=1)
    convert(model, path, recipe=recipe)
    return path


def trainer(path):
    return Trainer(path, threads=1)


def assert_same_bits(one, other):
    assert one.progress == other.progress
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        assert tensor.dtype == other.tensors[name].dtype, name
        assert tensor.tobytes() == other.tensors[name].tobytes(), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_epochs_and_two_more_are_four(recipe, data, tmp_path):
    whole = trainer(folder(tmp_path / "whole", recipe))
    history = whole.fit(data[0], epochs=4, evaluation=data[1], **RUN)
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]
    parts = folder(tmp_path / "parts", recipe)
    trainer(parts).fit(data[0], epochs=2, evaluation=data[1], **RUN)
    second = trainer(parts)
    second.fit(data[0], epochs=4, evaluation=data[1], resume=True, **RUN)
    one, other = whole.state, second.state
    assert one.progress.settings == other.progress.settings | {"epochs": 4}
    assert_same_bits(one, other)
    if recipe != "fp16":  # gradients are dithered: seed and step, not those of the second part alone
        assert other.tensors["random_state"] == (RUN["seed"] << 32) + 4 * BATCHES


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stop", [3, 17])
def test_interrupted_within_an_epoch(recipe, stop, data, tmp_path, monkeypatch):
    """By Ctrl-C while step ``stop`` is under way; the schedule, too, goes on where it was."""
    whole = trainer(folder(tmp_path / "whole", recipe))
    whole.fit(data[0], epochs=2, evaluation=data[1], schedule="cosine", **RUN)
    parts = folder(tmp_path / "parts", recipe)
    first = trainer(parts)
    advance = first._engine.advance

    def pressing(batch, rate):
        if first._engine.now.progress.step + 1 == stop:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(batch, rate)

    monkeypatch.setattr(first._engine, "advance", pressing)
    history = first.fit(data[0], epochs=2, evaluation=data[1], schedule="cosine", **RUN)
    assert history.interrupted
    assert first.state.progress.position == stop % BATCHES
    second = trainer(parts)
    second.fit(data[0], epochs=2, evaluation=data[1], schedule="cosine", resume=True, **RUN)
    assert_same_bits(whole.state, second.state)


def test_every_epoch_has_an_order_of_its_own(data, tmp_path, monkeypatch):
    """And has every sample once."""
    one = trainer(folder(tmp_path / "out", "ibm2020"))
    advance, seen = one._engine.advance, []

    def noting(batch, rate):
        seen.append(batch["image"])
        return advance(batch, rate)

    monkeypatch.setattr(one._engine, "advance", noting)
    one.fit(data[0], epochs=2, **RUN)
    epochs = [np.concatenate(seen[:BATCHES]), np.concatenate(seen[BATCHES:])]
    assert not np.array_equal(*epochs)
    assert not any(np.array_equal(epoch, data[0]["image"]) for epoch in epochs)
    for epoch in epochs:
        assert sorted(x.tobytes() for x in epoch) == sorted(x.tobytes() for x in data[0]["image"])
