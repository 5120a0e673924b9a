"""A ResNet as PyTorch exports it, by each exporter: converts, trains in 4 bits at any batch size, exports."""

import numpy as np
import onnxruntime as ort
import pytest
from torch_models import EXPORTERS, exported

from fourbit_onnx import Trainer, convert, export

# Ten classes of 3x16x16 images: a fixed pattern each, and noise. 70 images make a last batch of 6.
RNG = np.random.default_rng(0)
PATTERNS = RNG.standard_normal((10, 3, 16, 16)).astype(np.float32)
LABELS = np.arange(70) % 10
DATA = {
    "input": (PATTERNS[LABELS] + 0.5 * RNG.standard_normal((70, 3, 16, 16))).astype(np.float32),
    "labels": LABELS,
}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_resnet_trains_in_4_bits(exporter, tmp_path):
    # Plain dynamo folds BatchNorm away; without it this net learns slowly, in float32 too.
    epochs = 24 if exporter == "dynamo" else 8
    model = exported("resnet", exporter, fresh=True)
    compiled = convert(model, tmp_path / "out", recipe="ibm2020", optimizer="adamw")
    assert compiled.plan.share > 0.8
    trainer = Trainer(tmp_path / "out")
    history = trainer.fit(DATA, epochs=epochs, batch_size=16, learning_rate=0.005, progress=False)
    losses = [epoch["loss"] for epoch in history.epochs]
    assert losses[0] > 1  # chance is ln 10 = 2.3
    assert losses[-1] < 0.5 * losses[0]
    found = trainer.evaluate(DATA, batch_size=7)
    assert found["accuracy"] > 0.5  # chance is 0.1; five standard deviations of 70 guesses above it: 0.28
    export(tmp_path / "out", tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    right = session.run(None, {"input": DATA["input"]})[0].argmax(1) == LABELS
    assert abs(right.mean() - found["accuracy"]) <= 1 / 70
