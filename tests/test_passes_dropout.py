"""Dropout from a counter: saved state, right share, and gone in evaluation."""

import numpy as np
import onnx.parser
import pytest

from fourbit_onnx import Trainer, convert

MODEL = """<ir_version: 10, opset_import: ["": 21]>
g (float[batch, 8] x) => (float[batch, 4] y)
  <float[8, 64] w1 = {}, float[64, 4] w2 = {}> {{
    h = MatMul (x, w1)
    r = Relu (h)
    ratio = Constant <value = float {{0.25}}> ()
    d, mask = Dropout (r, ratio)
    y = MatMul (d, w2)
}}"""


def model():
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal(shape).astype(np.float32).ravel().tolist() for shape in ((8, 64), (64, 4))]
    return onnx.parser.parse_model(MODEL.format(*("{" + ", ".join(map(str, t)) + "}" for t in tables)))


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((48, 8)).astype(np.float32), "labels": rng.integers(0, 4, 48)}


def fit(folder, data, epochs, seed=5, resume=False):
    trainer = Trainer(folder)
    trainer.fit(
        data, epochs=epochs, batch_size=16, learning_rate=0.05, seed=seed, resume=resume, progress=False
    )
    return trainer.state.tensors


def test_resumed_run_drops_the_same(tmp_path, data):
    for name in ("whole", "parts", "other"):
        convert(model(), tmp_path / name, recipe="fp32")
    whole = fit(tmp_path / "whole", data, 4)
    fit(tmp_path / "parts", data, 2)
    parts = fit(tmp_path / "parts", data, 4, resume=True)
    other = fit(tmp_path / "other", data, 4, seed=6)
    assert whole["random_state"] == (5 << 32) + 12
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
    assert not np.array_equal(whole["w1"], other["w1"])


def test_dropout_is_unbiased_and_absent_in_evaluation(tmp_path, data):
    compiled = convert(model(), tmp_path / "out", recipe="fp32")
    ops = [node.op_type for node in compiled.training.graph.node]
    assert ops.count("RandomUniform") == 1
    assert "Dropout" not in ops
    assert not {"Dropout", "RandomUniform"} & {node.op_type for node in compiled.evaluation.graph.node}
    trainer = Trainer(tmp_path / "out")
    first = [trainer.step(data, learning_rate=0.0)["loss"] for _ in range(2)]
    assert first[0] != first[1]  # another mask every step
