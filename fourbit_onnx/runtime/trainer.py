"""Trains the model of an artifact folder."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.artifacts.state import State
from fourbit_onnx.data import batches
from fourbit_onnx.data.batches import Batches
from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import DataError, TrainingError, as_wrong_use
from fourbit_onnx.runtime import calibration, schedules
from fourbit_onnx.runtime.data_specs import fixed_batch
from fourbit_onnx.runtime.engine import Engine, Now
from fourbit_onnx.runtime.evaluate import require_finite
from fourbit_onnx.runtime.history import History
from fourbit_onnx.runtime.loop import Loop
from fourbit_onnx.runtime.progress import Display
from fourbit_onnx.runtime.schedules import Schedule
from fourbit_onnx.runtime.session import value

_UNKNOWN = "batches"  # in place of a digest: evaluation data that comes as it is asked for
RANDOM_STATE = "random_state"  # of dropout and quantisers; see passes/random_state.py

_log = logging.getLogger(__name__)


class Trainer:
    """Trains, evaluates and saves; all state is that of the folder's checkpoint, and goes back there.

    Args:
        folder: The artifact folder, as ``fourbit convert`` writes it.
        threads: Threads of each operator; None: one for every processor that this process may use.
        native: Whether to use the native kernels, if the library is there.

    Raises:
        ArtifactError: The folder is damaged.
    """

    def __init__(self, folder: Path | str, *, threads: int | None = None, native: bool = True) -> None:
        self._engine = Engine(Path(folder), threads=threads, native=native)

    @property
    def folder(self) -> Path:
        """The artifact folder."""
        return self._engine.folder

    @property
    def manifest(self) -> Manifest:
        """The roles of the graphs' inputs and outputs."""
        return self._engine.manifest

    @property
    def specs(self) -> dict[str, Spec]:
        """What the data must look like: name to type and shape, in the order of a tuple of arrays."""
        return self._engine.specs

    @property
    def state(self) -> State:
        """A copy of all state as it is after the last step; assign one to go on from there."""
        return self._engine.state()

    @state.setter
    def state(self, state: State) -> None:
        self._engine.set_state(state)

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            ArtifactError: It cannot be written; the last one is untouched.
        """
        self._engine.save()

    def step(self, batch: Any, *, learning_rate: float) -> dict[str, float]:
        """Train on one batch: a dictionary, or a tuple in the order of `specs`.

        PACT clips that were never set get their values from this batch.

        Returns:
            ``loss`` and metrics of the batch before the update, and ``skipped`` (0 or 1).

        Raises:
            DataError: The batch does not fit.
            TrainingError: An operator refuses a number; the state is as before the step.
        """
        arrays = batches.one(batch, self.specs)
        self._engine.calibrate([arrays])
        self._engine.now, result = self._engine.advance(arrays, learning_rate)
        return {**result.numbers, "skipped": float(result.skipped)}

    def evaluate(self, data: Any, batch_size: int | None = None) -> dict[str, float]:
        """Loss and metrics on ``data``, which is as for `fit`; means over samples.

        Raises:
            DataError: The data does not fit.
            TrainingError: An operator refuses a number, the loss is not finite, or the model was never
                trained.
        """
        found = self._engine.evaluate(self._source(data, batch_size))
        require_finite(found, "evaluation")
        return found

    def fit(
        self,
        train: Any,
        *,
        epochs: int,
        learning_rate: float,
        batch_size: int | None = None,
        schedule: Schedule | str = "constant",
        evaluation: Any = None,
        seed: int = 0,
        resume: bool = False,
        progress: bool | Display | None = None,
        checkpoint_every: int | None = None,
        calibration_batches: int = calibration.BATCHES,
        after_epoch: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> History:
        """Train until ``epochs`` epochs are complete.

        The checkpoint is written after every epoch; and on Ctrl-C, after the step that is under way.
        A run that was interrupted and resumed ends with the same bits as one that was not.

        Args:
            train: A dictionary or tuple of arrays (inputs, then targets), which are shuffled; or an iterable
                of batches (a DataLoader), or a function from epoch to one, which are taken as they come.
            epochs: Epochs of the whole run, those before a resume included.
            learning_rate: The peak of the schedule.
            batch_size: Samples in a batch; only for arrays.
            schedule: One of ``fourbit_onnx.runtime.schedules``, or its name.
            evaluation: Data as ``train``, evaluated after every epoch; if it is other data than before a
                resume, a warning says so.
            seed: Seed of the order of the samples.
            resume: Go on from the checkpoint, with the data that the run began with (of arrays it keeps the
                SHA-256); otherwise the folder must hold an untrained model.
            progress: True shows the progress on stderr, False does not, None does if that is a terminal; or
                a display of your own.
            checkpoint_every: Write the checkpoint after so many steps too; 0: never write one.
            calibration_batches: How many batches the first values of PACT clips come from.
            after_epoch: Called with the index and the record of every epoch that ends, after its evaluation
                and before its checkpoint is written: after a crash between, it is called again. What it
                raises ends the run.

        Raises:
            ArtifactError: The checkpoint cannot be written.
            DataError: The data does not fit.
            TrainingError: The run cannot go on, and the checkpoint is the last one of before. The state is
                that before the failed step; if loss scaling skipped steps to no avail, that after them.
        """
        _check_numbers(epochs, learning_rate, seed, checkpoint_every, calibration_batches)
        if isinstance(schedule, str):
            schedule = schedules.named(schedule)
        source = self._source(train, batch_size, seed=seed)
        try:
            held_out = None if evaluation is None else self._source(evaluation, batch_size)
        except DataError as error:
            error.args = (f"evaluation data: {error}",)
            raise
        count = source.count()
        total = None if count is None else count * epochs
        schedule.factor(schedule.warmup, total)  # a refusal comes before the first step
        self._begin(
            {
                "batch_size": batch_size,
                "samples": source.samples(),
                "batches": count,
                "data": source.digest(),
                "evaluation": None if held_out is None else held_out.digest() or _UNKNOWN,
                "epochs": epochs,
                "learning_rate": learning_rate,
                "schedule": repr(schedule),
            },
            seed,
            resume,
        )
        if checkpoint_every != 0 and self._engine.now.progress.epoch < epochs:
            checkpoint.check_place(self.folder)
        done = self._engine.now.progress.step
        if not isinstance(progress, Display):
            progress = Display(progress, epochs=epochs, total=total, done=done)
        with progress as display:
            return Loop(
                self._engine,
                source,
                held_out,
                schedule=schedule,
                peak=learning_rate,
                epochs=epochs,
                total=total,
                checkpoint_every=checkpoint_every,
                calibration_batches=calibration_batches,
                display=display,
                after_epoch=after_epoch,
            ).run()

    def _begin(self, settings: dict[str, Any], seed: int, resume: bool) -> None:
        """Refuse to mix two runs, and note the settings."""
        now = self._engine.now.progress
        if now.step and not resume:
            raise TrainingError(
                f"{self.folder} has been trained for {now.step} steps; go on with --resume (resume=True), or "
                "make a fresh folder with fourbit convert"
            )
        if now.step and now.settings:
            old = {**now.settings, "seed": now.seed}
            new = {**settings, "seed": seed}
            for name in ("batch_size", "samples", "batches", "seed"):
                if old.get(name) != new[name]:
                    raise TrainingError(
                        f"cannot resume {self.folder} with {name} {new[name]}: the run began with "
                        f"{old.get(name)}; resume with that, or make a fresh folder with fourbit convert"
                    )
            if None not in (old.get("data"), new["data"]) and old["data"] != new["data"]:  # both are known
                raise TrainingError(
                    f"cannot resume {self.folder} with other data, though there is as much of it: resume "
                    "with the data that the run began with, or make a fresh folder with fourbit convert"
                )
            for name in ("epochs", "learning_rate", "schedule"):
                if old.get(name) != new[name]:
                    _log.warning("resumed with %s %s; it was %s", name, new[name], old.get(name))
            if other := _other_evaluation(old, new):
                _log.warning("resumed %s", other)
        values = dict(self._engine.now.values)
        if RANDOM_STATE in values and not now.step:  # the step is counted in the low half
            values[RANDOM_STATE] = value(np.array((seed % 2**31) << 32, np.int64))
        self._engine.now = Now(values, dataclasses.replace(now, settings=settings, seed=seed))

    def _source(self, data: Any, batch_size: int | None, seed: int | None = None) -> Batches:
        fixed = fixed_batch(self.specs)
        if fixed is None:
            return batches.source(data, self.specs, batch_size, seed=seed)
        if batch_size not in (None, fixed):
            raise DataError(
                f"batch size {batch_size}: the model takes {fixed} samples at a time; use that, or convert a "
                "model with a free batch axis"
            )
        source = batches.source(data, self.specs, fixed, seed=seed, drop_last=True)
        if isinstance(source, batches.ArrayBatches) and source.left_out:
            _log.warning(
                "%d of %d samples are left out of every epoch: the model takes %d at a time",
                source.left_out, source.left_out + source.samples(), fixed,
            )  # fmt: skip
        return source


def _other_evaluation(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """How the evaluation data differs from that of the run so far; "" if it does not, or none can say."""
    if "evaluation" not in old or old["evaluation"] == new["evaluation"]:
        return ""
    if new["evaluation"] is None:
        return "without evaluation data (--eval, evaluation=...), with which the run began"
    if old["evaluation"] is None:
        return "with evaluation data; the run began without"
    if _UNKNOWN in (old["evaluation"], new["evaluation"]):
        return ""
    return "with other evaluation data than the run began with: its epochs cannot be compared"


@as_wrong_use()
def _check_numbers(
    epochs: int, learning_rate: float, seed: int, checkpoint_every: int | None, calibration_batches: int
) -> None:
    if epochs < 1:
        raise TrainingError(f"{epochs} epochs; at least 1 is needed")
    schedules.check_rate(learning_rate)
    if seed < 0:
        raise TrainingError(f"seed {seed}; it is 0 or more")
    if checkpoint_every is not None and checkpoint_every < 0:
        raise TrainingError(f"a checkpoint every {checkpoint_every} steps; 0 is never")
    if calibration_batches < 1:
        raise TrainingError(f"{calibration_batches} calibration batches; at least 1 is needed")
