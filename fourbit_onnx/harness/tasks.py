"""What a recipe is tried on: data, model, metric, margin and settings, as data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fourbit_onnx.errors import DataError

HIGHER_IS_BETTER = ("accuracy",)
MARGINS = {"accuracy": 0.005, "bits_per_character": 0.02, "loss": 0.02}  # accuracy: absolute; else a share


@dataclasses.dataclass(frozen=True)
class Task:
    """One line of the table of tasks; or a user's model and data, whose ``field`` is "yours".

    Attributes:
        name: What it is called.
        field: ``vision``, ``speech``, ``language`` or ``yours``.
        data: A name of `data.named.BUILT_IN`; for a user's model the path of the file or folder.
        model: A name of `models.registry.MODELS`; for a user's model the path of the file.
        model_options: What the builder gets, beside the seed.
        metric: ``accuracy``, ``bits_per_character`` (mean loss / ln 2) or ``loss``, on the test data after
            the last epoch.
        margin: How much worse than the baseline a recipe may be: in units of the metric for accuracy (0.005
            is half a point), else as a share of the baseline's value.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: The peak of the schedule.
        schedule: ``constant``, ``cosine`` or ``step``.
        warmup: Steps in which the learning rate rises.
        weight_decay: For tensors of two or more dimensions.
        clip_decay: For the trained clips of activations (PACT).
        max_norm: Largest norm of all gradients; 0: no limit.
        batch_size: Samples in a step; None: what the model insists on.
        epochs: Of every run.
    """

    name: str
    field: str
    data: str
    model: str
    metric: str
    optimizer: str
    learning_rate: float
    epochs: int
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    margin: float = 0.005
    schedule: str = "cosine"
    warmup: int = 0
    weight_decay: float = 1e-4
    clip_decay: float = 0.0
    max_norm: float = 0.0
    batch_size: int | None = 64

    @property
    def relative(self) -> bool:
        """Whether differences and margin are shares of the baseline's value."""
        return self.metric not in HIGHER_IS_BETTER

    @property
    def higher_is_better(self) -> bool:
        """The direction of the metric."""
        return self.metric in HIGHER_IS_BETTER


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            "digits",
            "vision",
            data="digits",
            model="resnet8",
            model_options={"width": 16},
            metric="accuracy",
            optimizer="sgd",
            learning_rate=0.1,
            warmup=20,
            epochs=10,
        ),
        Task(
            "glyphs",
            "vision",
            data="glyphs",
            model="resnet8",
            model_options={"width": 16},
            metric="accuracy",
            optimizer="sgd",
            learning_rate=0.2,
            warmup=20,
            weight_decay=1e-3,
            epochs=20,
        ),
        Task(
            "text",
            "language",
            data="text",
            model="transformer_lm",
            model_options={"width": 64, "heads": 4, "layers": 2},
            metric="bits_per_character",
            margin=0.02,
            optimizer="adamw",
            learning_rate=0.006,
            warmup=50,
            weight_decay=0.01,
            batch_size=16,
            epochs=10,
        ),
        Task(
            "speech",
            "speech",
            data="speech",
            model="bilstm",
            model_options={"hidden": 64, "layers": 2},
            metric="accuracy",
            optimizer="adamw",
            learning_rate=0.004,
            warmup=50,
            weight_decay=0.01,
            epochs=15,
        ),
    )
}


def find(name: str) -> Task:
    """The built-in task ``name``.

    Raises:
        DataError: There is none.
    """
    if name not in TASKS:
        raise DataError(f"no task {name!r}; there are: {', '.join(TASKS)}")
    return TASKS[name]
