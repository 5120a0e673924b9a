"""The training loop: epochs, evaluation, checkpoints, interruption."""

import copy
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fourbit_onnx.data.batches import Batch, Batches
from fourbit_onnx.errors import TrainingError
from fourbit_onnx.runtime.engine import Engine, Now
from fourbit_onnx.runtime.evaluate import require_finite
from fourbit_onnx.runtime.history import History
from fourbit_onnx.runtime.interrupt import Interrupt
from fourbit_onnx.runtime.metrics import (
    HIGHER_IS_BETTER,
    LOST,
    SAMPLES,
    SKIPPED,
    added,
    better,
    means,
    skipped,
)
from fourbit_onnx.runtime.progress import Display
from fourbit_onnx.runtime.refusals import diverged
from fourbit_onnx.runtime.schedules import Schedule

MOST_SKIPS = 50  # in a row; the loss scale goes from 2**16 to its least, 2**-14, in 30
MOST_LOST = 10  # at the end of an epoch, in a row

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class Loop:
    """What one call of ``fit`` does.

    Attributes:
        engine: Graphs and state.
        train: The training batches.
        evaluation: The batches for the evaluation after every epoch; None: no evaluation.
        schedule: The learning rate over the run, as a factor.
        peak: What it is a factor of.
        epochs: Epochs of the whole run.
        total: Steps of the whole run, if known.
        checkpoint_every: Save after so many steps too; None: after epochs only; 0: never.
        calibration_batches: Batches that the first values of PACT clips come from.
        display: Shows the progress.
        after_epoch: Called with the epoch's index and record, before the checkpoint is written.
    """

    engine: Engine
    train: Batches
    evaluation: Batches | None
    schedule: Schedule
    peak: float
    epochs: int
    total: int | None
    checkpoint_every: int | None
    calibration_batches: int
    display: Display
    after_epoch: Callable[[int, Mapping[str, float]], None] | None = None
    interrupt: Interrupt = dataclasses.field(default_factory=Interrupt)
    history: History = dataclasses.field(default_factory=History)
    skips: int = 0

    def run(self) -> History:
        """Train to the end, or to an interruption."""
        began, engine = time.perf_counter(), self.engine
        with self.interrupt:
            try:
                if engine.now.progress.epoch < self.epochs and engine.missing_clips():
                    engine.calibrate(self.train.first(self.calibration_batches))
                while engine.now.progress.epoch < self.epochs and not self.interrupt.asked:
                    self._epoch()
            except KeyboardInterrupt:  # raised by the data, or by a second Ctrl-C while it is waited for
                self.interrupt.asked = True
            if engine.now.progress.epoch < self.epochs:
                self.history.interrupted = True
                self._save()
        progress = engine.now.progress
        self.history.epochs = copy.deepcopy(progress.history)
        self.history.best = dict(progress.best)
        self.history.step = progress.step
        self.history.seconds = time.perf_counter() - began
        return self.history

    def _epoch(self) -> None:
        """The rest of the present epoch, and its evaluation; less if interrupted."""
        engine, began, seen = self.engine, time.perf_counter(), 0
        start = engine.now.progress
        for batch in self.train.epoch(start.epoch, start.position):
            self._step(batch)
            now = engine.now.progress
            seen += _samples(batch)
            self.display.step(now.epoch, now.step, means(now.totals), seen / (time.perf_counter() - began))
            if self.interrupt.asked:
                return
            due = self.checkpoint_every and now.step % self.checkpoint_every == 0
            if due and not now.totals.get(LOST):  # else what may be lost would take the place of what is good
                self._save()
        self._check_skipped()
        record = self._record()
        if self.evaluation is not None:
            found = engine.evaluate(self.evaluation, self.interrupt)
            if self.interrupt.asked:  # the epoch stays open: a resumed run evaluates it again
                return
            if start.epoch + 1 == self.epochs:  # before, running statistics may lag behind, and catch up
                require_finite(found, f"evaluation after epoch {self.epochs}")
            record |= {f"eval_{name}": number for name, number in found.items()}
        self._close_epoch(record)
        self.display.epoch(start.epoch, record)
        if self.after_epoch is not None:
            self.after_epoch(start.epoch, dict(record))
        self._save()

    def _step(self, batch: Batch) -> None:
        engine, before = self.engine, self.engine.now.progress
        rate = self._rate(before.step)
        now, result = engine.advance(batch, rate)
        if result.skipped:
            totals = skipped(before.totals, result.numbers["loss"])
        else:
            totals = added(before.totals, result.numbers, _samples(batch))
        progress = dataclasses.replace(now.progress, position=before.position + 1, totals=totals)
        engine.now = Now(now.values, progress)
        self.history.losses.append(result.numbers["loss"])
        self.skips = self.skips + 1 if result.skipped else 0
        if self.skips == MOST_SKIPS:
            first = diverged(f"step {progress.step}", rate) if progress.updates else f"step {progress.step}"
            raise TrainingError(
                f"{first}: the gradients were not finite {MOST_SKIPS} times in a row, whatever the loss "
                "scale; lower the learning rate, and resume from the last checkpoint"
            )

    def _check_skipped(self) -> None:
        """Refuse an epoch at whose end the loss itself, not only its gradients, was not finite.

        The loss does not depend on its scale, and skipping does not move the parameters: they are lost. A
        single batch may be to blame, so that it takes most of the epoch, or ``MOST_LOST`` steps.
        """
        progress = self.engine.now.progress
        lost = int(progress.totals.get(LOST, 0))
        if lost > min(progress.position // 2, MOST_LOST - 1):
            where = f"step {progress.step}"
            first = diverged(where, self._rate(progress.step - 1))
            remedy = "lower the learning rate or warm it up, and resume from the last checkpoint"
            if not progress.updates:  # no learning rate was used yet
                first, remedy = where, "the data or the first weights are too large for float16: rescale them"
            raise TrainingError(
                f"{first}: epoch {progress.epoch + 1} ends with steps whose loss is not finite, {lost} of "
                f"{progress.position}, which were skipped; {remedy}"
            )
        if SAMPLES not in progress.totals:
            _log.warning(
                "epoch %d: all %d steps were skipped, while loss scaling looks for its scale; nothing was "
                "learnt yet", progress.epoch + 1, progress.position,
            )  # fmt: skip

    def _record(self) -> dict[str, float]:
        progress = self.engine.now.progress
        return {
            "epoch": float(progress.epoch),
            **means(progress.totals),
            "learning_rate": self._rate(max(0, progress.step - 1)),
            SKIPPED: progress.totals.get(SKIPPED, 0.0),
        }

    def _close_epoch(self, record: dict[str, float]) -> None:
        now = self.engine.now
        progress = dataclasses.replace(
            now.progress,
            epoch=now.progress.epoch + 1,
            position=0,
            totals={},
            history=[*now.progress.history, record],
            best=_best(now.progress.best, record),
        )
        self.engine.now = Now(now.values, progress)

    def _rate(self, step: int) -> float:
        return self.peak * self.schedule.factor(step, self.total)

    def _save(self) -> None:
        if self.checkpoint_every != 0:
            self.engine.save()


def _samples(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _best(best: dict[str, Any], record: dict[str, float]) -> dict[str, Any]:
    """The better one of the best evaluation so far and that of ``record``, by accuracy, else by loss."""
    metric = next((name for name in HIGHER_IS_BETTER if f"eval_{name}" in record), "loss")
    new = record.get(f"eval_{metric}")
    if new is None or (best and not better(metric, new, best["value"])):
        return best
    return {"metric": metric, "value": new, "epoch": int(record["epoch"])}
