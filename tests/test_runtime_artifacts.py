"""The trainer on what `convert` writes: every recipe, with and without the library, stopped and resumed."""

import os
import signal

import numpy as np
import pytest
from artifact_folder import same

from fourbit_onnx.errors import TrainingError
from fourbit_onnx.models import registry
from fourbit_onnx.passes.convert import convert
from fourbit_onnx.passes.pipeline import Options
from fourbit_onnx.recipes.table import RECIPES
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.trainer import Trainer

needs_library = pytest.mark.skipif(library.path() is None, reason="the native library is not built")
RUN = {"epochs": 2, "batch_size": 16, "learning_rate": 0.05, "schedule": "cosine"}


@pytest.fixture(params=sorted(RECIPES))
def folders(request, tmp_path):
    """A function that converts the small ResNet again, for one recipe."""
    model = registry.build("resnet8", input_shape=(1, 8, 8), classes=10, seed=0)

    def make(name):
        convert(model, tmp_path / name, Options(recipe=RECIPES[request.param]))
        return tmp_path / name

    return make


def data(samples=40):
    random = np.random.default_rng(3)
    labels = random.integers(0, 10, samples)
    return (random.normal(labels[:, None, None, None] / 5, 1, (samples, 1, 8, 8)), labels)


def trained(folder, **options):
    trainer = Trainer(folder, threads=2, **options)
    trainer.fit(data(), **RUN, evaluation=data(20))
    return trainer.state


@needs_library
def test_library_and_bodies_give_the_same_bits(folders):
    assert same(trained(folders("library")), trained(folders("bodies"), native=False))


def test_same_run_twice(folders):
    assert same(trained(folders("one")), trained(folders("two")))


def test_stopped_and_resumed(folders, monkeypatch):
    whole = trained(folders("whole"))
    folder = folders("parts")
    first = Trainer(folder, threads=2)
    advance = first._engine.advance

    def pressing(batch, rate):
        if first.state.progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(batch, rate)

    monkeypatch.setattr(first._engine, "advance", pressing)
    assert first.fit(data(), **RUN, evaluation=data(20)).interrupted
    second = Trainer(folder, threads=2)
    assert second.state.progress.step == 5
    second.fit(data(), **RUN, evaluation=data(20), resume=True)
    assert same(second.state, whole)


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
def test_nan_is_named(tmp_path, native):
    model = registry.build("resnet8", input_shape=(1, 8, 8), classes=10, seed=0)
    convert(model, tmp_path / "out", Options(recipe=RECIPES["ibm2020"]))
    trainer = Trainer(tmp_path / "out", native=native)
    trainer.step(data(), learning_rate=0.1)
    state = trainer.state
    state.tensors["layer2.0.conv1.weight"][1, 0, 0, 0] = np.nan
    trainer.state = state
    with pytest.raises(TrainingError) as caught:
        trainer.step(data(), learning_rate=0.1)
    message = str(caught.value)
    assert message.startswith(
        "training diverged at step 2 (learning rate 0.1): ai.fourbit.SawbScale 'layer2.0.conv1.w/scale': "
    )
    assert "'layer2.0.conv1.weight'" in message
    assert message.endswith("; lower the learning rate or warm it up, and resume from the last checkpoint")
    assert native is False or "w[1, 0, 0, 0] is nan" in message
