"""New parameters lie where their gradients lay: no bit changes, nobody's memory is overwritten or kept."""

import numpy as np
import pytest
from graphs import model
from native import needs_library
from pass_runs import assert_same_bits, batches, small_resnet

from fourbit_onnx import convert
from fourbit_onnx.runtime.session import Session
from fourbit_onnx.runtime.trainer import Trainer


def states(folder, batch_of, *, native, steps=4):
    """The state after each of some steps; the arrays of it are views of the memory itself."""
    trainer = Trainer(folder, threads=2, native=native)
    found = []
    for step in range(steps):
        trainer.step(batch_of(step), learning_rate=0.1)
        found.append({name: np.array(part) for name, part in trainer.state.tensors.items()})
    return found


def without_places(monkeypatch):
    """Let sessions give every output memory of its own; returns the places that were asked for."""
    asked = []
    run = Session.run

    def plain(self, values, wanted, where="", places=None, **options):
        asked.extend(places or ())
        return run(self, values, wanted, where, **options)

    monkeypatch.setattr(Session, "run", plain)
    return asked


def compare(folder, batch_of, monkeypatch, *, native):
    placed = states(folder, batch_of, native=native)
    asked = without_places(monkeypatch)
    plain = states(folder, batch_of, native=native)
    assert asked
    for one, other in zip(placed, plain, strict=True):
        assert_same_bits(one, other)


OPTIONS = {
    "sgd": {},
    "nesterov, norm": {"nesterov": True, "max_norm": 0.5},
    "adamw": {"optimizer": "adamw"},
    "loss scaling": {"recipe": "fp16"},
    "loss scaling, norm": {"recipe": "fp16", "max_norm": 0.5, "optimizer": "adamw"},
}


@pytest.mark.parametrize("native", [pytest.param(True, marks=needs_library), False])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_no_bit_changes(options, native, tmp_path, monkeypatch):
    convert(small_resnet(), tmp_path / "out", **options)
    data = batches(4)
    compare(tmp_path / "out", lambda step: data[step], monkeypatch, native=native)


def test_equal_and_constant_gradients(tmp_path, monkeypatch):
    """Of b and c one tensor is the gradient; that of p is 1 / 3 whatever the data is."""
    rng = np.random.default_rng(0)
    names = {"w": (4, 3), "b": (3,), "c": (3,), "p": (3,)}
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in names.items()}
    body = """
        y = MatMul (x, w) s = Add (y, b) t = Add (s, c) q = Mul (t, t)
        m = ReduceMean <keepdims = 0> (q) n = ReduceMean <keepdims = 0> (p) loss = Add (m, n)
    """
    convert(model("(float[N,4] x) => (float loss)", body, values), tmp_path / "out", loss="output")
    x = rng.standard_normal((4, 5, 4)).astype(np.float32)
    compare(tmp_path / "out", lambda step: {"x": x[step]}, monkeypatch, native=True)


def test_where_new_parameters_lie(tmp_path, monkeypatch):
    """In the memory of the gradients; the old parameters are as they were."""
    convert(small_resnet(), tmp_path / "out", clip_decay=1e-4)  # a clip without gradient moves, too
    trainer = Trainer(tmp_path / "out", threads=1)
    lay = {}
    run = Session.run

    def watched(self, values, *arguments, **options):
        results = run(self, values, *arguments, **options)
        lay.update({name: tensor.data_ptr() for name, tensor in results.items()})
        return results

    monkeypatch.setattr(Session, "run", watched)
    engine = trainer._engine
    engine.calibrate([dict(zip(engine.specs, batches(1)[0], strict=True))])
    old = engine.now.values
    before = {name: np.array(tensor.numpy()) for name, tensor in old.items()}
    now, _ = engine.advance(dict(zip(engine.specs, batches(1)[0], strict=True)), 0.1)
    for name, gradient in engine.manifest.gradients.items():
        assert now.values[name].data_ptr() == lay[gradient]
        assert not np.array_equal(now.values[name].numpy(), before[name])
    assert_same_bits({name: tensor.numpy() for name, tensor in old.items()}, before)
