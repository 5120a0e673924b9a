"""All that a training run is: arrays by name, and how far it has come."""

import dataclasses
from typing import Any

import numpy.typing as npt


@dataclasses.dataclass
class Progress:
    """How far a run has come; small, and JSON throughout.

    Attributes:
        epoch: Epochs that are complete, their evaluation included.
        position: Batches of the present epoch that are done.
        step: Batches that were trained on, skipped ones included; the schedule counts these.
        updates: Updates of the parameters; the optimiser counts these.
        seed: Seed of the order of the data.
        best: ``{"metric": name, "value": number, "epoch": index}`` of the best evaluation; empty if none.
        totals: Sums of the present epoch: ``"samples"``, ``"skipped"``, and each metric times samples.
        history: One record per complete epoch.
        settings: What the run was started with (batch size, learning rate, schedule, ...).
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    updates: int = 0
    seed: int = 0
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    totals: dict[str, float] = dataclasses.field(default_factory=dict)
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class State:
    """What a checkpoint holds.

    Attributes:
        tensors: Graph input to array: parameters, frozen tensors, buffers, quantiser state, moments.
        progress: How far the run has come.
    """

    tensors: dict[str, npt.NDArray[Any]]
    progress: Progress = dataclasses.field(default_factory=Progress)
