"""What the quantisers of a run do, after some of its epochs."""

from collections.abc import Mapping
from typing import Any

from fourbit_onnx.harness.probe import Probe
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
        self._probe = Probe(trainer.folder, batch)

    def look(self, epoch: int) -> dict[str, Any]:
        """The observation after ``epoch``."""
        return {"epoch": epoch, **self._probe.measure(self._trainer.state.tensors)}


def chosen(epochs: int) -> frozenset[int]:
    """The first epoch, the last, and up to six between, evenly."""
    count = min(MOST, epochs)
    return frozenset(round(i * (epochs - 1) / max(1, count - 1)) for i in range(count))
