"""What the quantisers of a run do, after some of its epochs."""

import importlib
from collections.abc import Mapping
from typing import Any

from fourbit_onnx.runtime.trainer import Trainer

MOST = 8  # observations of a run


class Observer:
    """Measures on one fixed batch.

    Args:
        trainer: Whose state is measured.
        batch: One batch.
        epochs: Of the run.
    """

    def __init__(self, trainer: Trainer, batch: Mapping[str, Any], epochs: int) -> None:
        self._trainer = trainer
        self.epochs = chosen(epochs)
        try:
            probe = importlib.import_module("fourbit_onnx.harness.probe").Probe
        except ModuleNotFoundError:
            self._probe, self.epochs = None, frozenset()
        else:
            self._probe = probe(trainer.folder, batch)

    def look(self, epoch: int) -> dict[str, Any]:
        """The observation after ``epoch``."""
        assert self._probe is not None
        return {"epoch": epoch, **self._probe.measure(self._trainer.state.tensors)}


def chosen(epochs: int) -> frozenset[int]:
    """The first epoch, the last, and up to six between, evenly."""
    count = min(MOST, epochs)
    return frozenset(round(i * (epochs - 1) / max(1, count - 1)) for i in range(count))
