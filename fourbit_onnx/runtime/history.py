"""What a call of ``fit`` gives back."""

import dataclasses
from typing import Any


@dataclasses.dataclass
class History:
    """A training run, or the part of it up to an interruption.

    Attributes:
        epochs: One record per complete epoch since the run began, before a resume too: ``epoch``, ``loss``,
            metrics, ``learning_rate`` of the last step, ``skipped`` steps; ``eval_loss``, ... if evaluated.
        losses: The loss of each step of this call; NaN or infinity where the step was skipped.
        best: ``{"metric": name, "value": number, "epoch": index}`` of the best evaluation; empty if none.
        step: Steps since the run began.
        interrupted: Whether Ctrl-C ended the call early; resume to go on.
        seconds: What this call took.
    """

    epochs: list[dict[str, float]] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    step: int = 0
    interrupted: bool = False
    seconds: float = 0.0
