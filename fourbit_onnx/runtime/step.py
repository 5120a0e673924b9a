"""One training step: state and batch in, new state and numbers out."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from fourbit_onnx.artifacts.manifest import OPTIMIZER_MODEL, TRAINING_MODEL, Manifest
from fourbit_onnx.data.batches import Batch
from fourbit_onnx.errors import TrainingError
from fourbit_onnx.runtime.refusals import diverged
from fourbit_onnx.runtime.session import Session, Value, Values, array, value


@dataclasses.dataclass(frozen=True)
class Result:
    """What a step gives.

    Attributes:
        changed: The part of the state that is new, by name.
        numbers: ``loss`` and the metrics, before the update.
        skipped: Whether the gradients were not finite and loss scaling left the parameters as they are.
    """

    changed: dict[str, Value]
    numbers: dict[str, float]
    skipped: bool


class TrainingStep:
    """The training graph, then the optimiser graph.

    Args:
        folder: The artifact folder.
        manifest: Its manifest.
        threads: Threads of each operator; None: all processors.
        native: Whether to use the native kernels.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int | None, native: bool) -> None:
        self.training = Session(folder / TRAINING_MODEL, threads=threads, native=native)
        self.optimizer = Session(folder / OPTIMIZER_MODEL, threads=threads, native=native)
        self._manifest = manifest
        self._numbers = {"loss": manifest.loss_output, **manifest.metrics}
        self._carried = {**manifest.buffers, **manifest.quantizer_state}
        skip = [manifest.skip] if manifest.skip else []
        self._wanted = [*self._numbers.values(), *self._carried.values(), *manifest.gradients.values(), *skip]
        self._updated = {**manifest.updates, **manifest.moments}

    def __call__(self, values: Values, batch: Batch, *, rate: float, update: int, where: str) -> Result:
        """Run one step.

        Args:
            values: The state.
            batch: Data inputs and targets.
            rate: The learning rate.
            update: Number of this update, from 1: what Adam's bias correction counts.
            where: ``step 12``, for messages.

        Raises:
            TrainingError: A quantiser refuses a number, or the loss is not finite; the state is as before.
        """
        feeds = {**values, **{name: value(part) for name, part in batch.items()}}
        refused = diverged(where, rate) if update > 1 else where  # before, it is the weights or the data
        results = self.training.run(feeds, self._wanted, where, refused=refused)
        del feeds
        numbers = {name: float(array(results[output])) for name, output in self._numbers.items()}
        skip = self._manifest.skip
        if skip and not bool(array(results[skip])):
            # Running statistics may have seen the infinity too: only the loss scale moves on.
            carried = self._manifest.quantizer_state
            return Result({name: results[output] for name, output in carried.items()}, numbers, True)
        if not math.isfinite(numbers["loss"]):
            rated = f" (learning rate {rate:g})" if refused == where else ""
            raise TrainingError(
                f"{refused}: the loss is {numbers['loss']}{rated}; lower the learning rate or warm it up, "
                "and resume from the last checkpoint"
            )
        scalars = {
            "learning_rate": value(np.array(rate, np.float32)),
            "step": value(np.array(update, np.int64)),
        }
        # A new parameter overwrites its gradient: by the graph, all that reads this comes before that.
        updated = self.optimizer.run(
            {**values, **results, **scalars},
            list(self._updated.values()),
            f"{where}, parameter update",
            {new: results[self._manifest.gradients[name]] for name, new in self._manifest.updates.items()},
            refused=refused,
        )
        changed = {name: updated[output] for name, output in self._updated.items()}
        changed |= {name: results[output] for name, output in self._carried.items()}
        return Result(changed, numbers, False)
