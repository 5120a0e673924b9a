"""The graphs of an artifact folder, and the state that goes through them."""

import copy
import dataclasses
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.artifacts.state import Progress, State
from fourbit_onnx.data.batches import Batch, Batches
from fourbit_onnx.errors import ArtifactError, TrainingError
from fourbit_onnx.runtime import calibration, evaluate, library
from fourbit_onnx.runtime.data_specs import data_specs
from fourbit_onnx.runtime.interrupt import Interrupt
from fourbit_onnx.runtime.session import Session, Values, array, value
from fourbit_onnx.runtime.step import Result, TrainingStep

_HIGH_PRECISION = ("fp32", "fp16")  # recipes without 4-bit operators

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Now:
    """All state at one moment, replaced as a whole, so that Ctrl-C between two lines cannot tear it.

    Attributes:
        values: Graph input to ONNX Runtime value.
        progress: How far the run has come; not changed in place.
    """

    values: Values
    progress: Progress


class Engine:
    """Runs the graphs on the state.

    Args:
        folder: The artifact folder; its checkpoint is read.
        threads: Threads of each operator; None: one for every processor that this process may use.
        native: Whether to use the native kernels, if the library is there.

    Attributes:
        folder: The artifact folder.
        manifest: Its manifest.
        specs: What the data must look like.
        now: The state.

    Raises:
        ArtifactError: The folder is damaged.
    """

    now: Now

    def __init__(self, folder: Path, *, threads: int | None, native: bool) -> None:
        self.folder = folder
        self.manifest = files.read(folder)
        self._threads, self._native = threads, native
        self._step = TrainingStep(folder, self.manifest, threads=threads, native=native)
        self._evaluation = self._session(files.EVAL_MODEL)
        for name, graph in (
            (files.TRAINING_MODEL, self._step.training),
            (files.OPTIMIZER_MODEL, self._step.optimizer),
            (files.EVAL_MODEL, self._evaluation),
        ):
            self._check_outputs(name, graph)
        self.specs = data_specs(self.manifest, self._step.training, self._evaluation)
        self.set_state(checkpoint.read(folder))
        if native and not self._step.training.native and self.manifest.recipe not in _HIGH_PRECISION:
            _log.warning(library.describe())

    def state(self) -> State:
        """A copy of all state."""
        tensors = {name: array(tensor) for name, tensor in self.now.values.items()}
        return State(tensors, copy.deepcopy(self.now.progress))

    def set_state(self, state: State) -> None:
        """Go on from a copy of ``state``.

        Raises:
            ArtifactError: It is not one of these graphs.
        """
        self._check(state)
        values = {name: value(tensor.copy()) for name, tensor in state.tensors.items()}
        self.now = Now(values, copy.deepcopy(state.progress))

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            TrainingError: A number of the state is not finite; the last checkpoint is untouched.
        """
        state = self.state()
        for name, tensor in state.tensors.items():
            if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
                raise TrainingError(
                    f"step {state.progress.step}: {name!r} is no longer finite, so it is not saved and the "
                    "last checkpoint is kept; lower the learning rate, or convert with --max-norm "
                    "(max_norm=...)"
                )
        checkpoint.write(self.folder, state)

    def advance(self, batch: Batch, rate: float) -> tuple[Now, Result]:
        """The state after one training step, which becomes the present one when it is assigned to `now`."""
        progress = self.now.progress
        where = f"step {progress.step + 1}"
        result = self._step(self.now.values, batch, rate=rate, update=progress.updates + 1, where=where)
        progress = dataclasses.replace(
            progress, step=progress.step + 1, updates=progress.updates + (not result.skipped)
        )
        return Now({**self.now.values, **result.changed}, progress), result

    def evaluate(self, batches: Batches, interrupt: Interrupt | None = None) -> dict[str, float]:
        """Loss and metrics over the samples of ``batches``.

        Raises:
            TrainingError: PACT clips were never set, or an operator refuses a number.
        """
        if clips := self.missing_clips():
            raise TrainingError(
                f"{self.folder} has not been trained: {len(clips)} PACT clips ({clips[0]!r} is the first) "
                "get their values from the first training batches; train first"
            )
        return evaluate.evaluate(self._evaluation, self.manifest, self.now.values, batches, interrupt)

    def missing_clips(self) -> list[str]:
        """The PACT clips that were never set."""
        return calibration.missing(self.manifest, self.now.values)

    def calibrate(self, batches: Sequence[Batch]) -> None:
        """Set the PACT clips that were never set, from these batches."""
        if clips := self.missing_clips():
            session = self._session(files.CALIBRATION_MODEL)
            self._check_outputs(files.CALIBRATION_MODEL, session)
            new = calibration.calibrate(session, self.manifest, self.now.values, clips, batches)
            self.now = Now({**self.now.values, **new}, self.now.progress)

    def _session(self, name: str) -> Session:
        return Session(self.folder / name, threads=self._threads, native=self._native)

    def _check_outputs(self, name: str, graph: Session) -> None:
        if missing := [output for output in self.manifest.produced()[name] if output not in graph.outputs]:
            raise ArtifactError(
                f"{self.folder / files.MANIFEST} names an output {missing[0]!r} that {name} lacks; "
                f"{files.copied(files.MANIFEST)}"
            )

    def _check(self, state: State) -> None:
        produced = {*self.manifest.gradients.values(), self.manifest.skip, "learning_rate", "step"}
        for session, others in (
            (self._step.training, set(self.specs)),
            (self._evaluation, set(self.specs)),
            (self._step.optimizer, produced),
        ):
            check_state(self.folder, session, state, others)
        if missing := [name for name in self.manifest.state() if name not in state.tensors]:
            raise ArtifactError(
                f"{self.folder / files.MANIFEST} names {missing[0]!r}, which the checkpoint lacks; "
                f"{files.copied(files.MANIFEST)}"
            )


def check_state(folder: Path, session: Session, state: State, others: Collection[str]) -> None:
    """Refuse a state that is not that of the graph.

    Args:
        folder: The artifact folder, for the message.
        session: The graph.
        state: The state.
        others: Inputs of the graph that are no state.

    Raises:
        ArtifactError: An array is missing, or of another type or shape.
    """
    remedy = f"restore the checkpoint of {folder}, or make the folder again with fourbit convert"
    for name, spec in session.inputs.items():
        if name in others:
            continue
        found = state.tensors.get(name)
        if found is None:
            raise ArtifactError(f"the checkpoint has no {name!r}; {remedy}")
        if found.dtype != spec.dtype or found.shape != spec.shape:
            raise ArtifactError(
                f"the checkpoint's {name!r} is {found.dtype} {found.shape}, the graph wants "
                f"{spec.dtype} {spec.shape}; {remedy}"
            )
