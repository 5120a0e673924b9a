"""A model whose training has diverged: what ``train``, ``eval`` and ``export --check`` say, and keep."""

import numpy as np
from cli import fourbit, listing, mlp, refusal

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.runtime.trainer import Trainer


def test_fp16_that_diverges(tmp_path):
    """Loss scaling skips every step after the first: no run ends well that way, no model is compared."""
    folder = tmp_path / "out"
    fourbit("convert", mlp(), "-o", folder, "--recipe", "fp16")
    before = listing(folder)
    said = refusal("train", folder, "--data", "digits", "--epochs", 2, "--lr", 1e10, "--quiet")
    assert "epoch 1 ends with steps whose loss is not finite" in said
    assert listing(folder) == before

    diverged = checkpoint.read(folder)
    for name in Trainer(folder).manifest.parameters:
        diverged.tensors[name] = np.full_like(diverged.tensors[name], 1e10)  # infinite as float16
    checkpoint.write(folder, diverged)
    said = refusal("eval", folder, "--data", "digits")
    assert said.startswith("evaluation: the loss is nan: training has diverged, or ")
    result = fourbit("export", folder, "-o", tmp_path / "m.onnx", "--check", "digits")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {folder} gives 'logits' with NaN or infinity on this data, so ")
