"""From what a user names to an `Experiment`: a built-in task, or a model file with data."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourbit_onnx.data import named
from fourbit_onnx.errors import DataError, FourbitError, TrainingError, as_wrong_use
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.harness.tasks import MARGINS, TASKS, Task
from fourbit_onnx.passes.optimizer import Optimizer
from fourbit_onnx.recipes.recipe import patterns
from fourbit_onnx.runtime.schedules import check_rate

RATES = {"sgd": 0.1, "adamw": 0.001}
CHANGEABLE = (
    "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "warmup", "weight_decay",
    "clip_decay", "max_norm", "margin", "metric",
)  # fmt: skip


@as_wrong_use()
def experiment(
    subject: str,
    *,
    data: str | None,
    evaluation: str | None,
    keys: Mapping[str, str],
    model: str | None,
    settings: Mapping[str, Any],
    loss: str | None = None,
    keep: Sequence[str] = (),
    first_seed: int = 0,
    model_options: Mapping[str, Any] | None = None,
) -> Experiment:
    """The experiment of `api.check`'s arguments; a value of None in ``settings`` is no change.

    Raises:
        DataError: There is no such task or file.
        FourbitError: There is no such setting, or its value makes no sense.
    """
    if unknown := sorted(set(settings) - set(CHANGEABLE)):
        raise FourbitError(f"no setting {unknown[0]!r}; there are: {', '.join(CHANGEABLE)}")
    changes = {name: value for name, value in settings.items() if value is not None}
    if subject in TASKS:
        if data is not None or evaluation is not None or keys or loss is not None:
            raise DataError(f"the task {subject!r} has its own data and loss; these are for a model file")
        task = TASKS[subject]
        if "seed" in (model_options or {}):
            raise FourbitError("the seed is no option of the model; choose the first one with first_seed")
        options = task.model_options
        if model is not None and model != task.model:
            changes["model"], options = model, {}
        changes["model_options"] = {**options, **(model_options or {})}
        found = Experiment(_changed(task, changes))
    else:
        if model_options:
            raise DataError("options of the model are for a task's; the model file is the model")
        found = _yours(subject, data, evaluation, keys, loss or "cross_entropy", changes)
    _check(found.task)
    if first_seed < 0:
        raise FourbitError(f"seeds are numbers from 0 on, not {first_seed}")
    found = dataclasses.replace(found, keep=patterns("keep", keep), first_seed=first_seed)
    if model is not None or model_options:
        found.model(first_seed)  # what every run would refuse is refused at once
    return found


def _yours(
    subject: str,
    data: str | None,
    evaluation: str | None,
    keys: Mapping[str, str],
    loss: str,
    changes: dict[str, Any],
) -> Experiment:
    path = Path(subject)
    if not path.is_file():
        raise DataError(f"{subject!r} is neither a task ({', '.join(TASKS)}) nor a model file")
    if data is None:
        raise DataError(f"{subject} is a model file, and needs data to train on")
    for source in (data, evaluation):
        if source is not None:
            named.require(source)
    metric = changes.get("metric", "accuracy" if loss == "cross_entropy" else "loss")
    task = Task(
        path.stem,
        "yours",
        data=_absolute(data),
        model=_absolute(subject),
        metric=metric,
        margin=MARGINS.get(metric, 0.0),
        optimizer="sgd",
        learning_rate=RATES.get(changes.get("optimizer", "sgd"), 0.0),
        epochs=10,
    )
    return Experiment(
        dataclasses.replace(task, **changes),
        None if evaluation is None else _absolute(evaluation),
        dict(keys),
        loss,
    )


def _changed(task: Task, changes: dict[str, Any]) -> Task:
    """A learning rate belongs to its optimiser, a margin to its metric."""
    defaults: dict[str, Any] = {}
    if changes.get("optimizer", task.optimizer) != task.optimizer:
        defaults["learning_rate"] = RATES.get(changes["optimizer"], 0.0)
    if changes.get("metric", task.metric) != task.metric:
        defaults["margin"] = MARGINS.get(changes["metric"], 0.0)
    return dataclasses.replace(task, **{**defaults, **changes})


def _absolute(path: str) -> str:
    """Workers run anywhere; a built-in data set is a name."""
    return path if path in named.BUILT_IN else str(Path(path).absolute())


def _check(task: Task) -> None:
    """What every run would refuse is refused at once."""
    if task.metric not in MARGINS:
        raise FourbitError(f"no metric {task.metric!r}; there are: {', '.join(MARGINS)}")
    if not 0 <= task.margin < 1:
        raise FourbitError(f"margin {task.margin}; it is 0 or more and below 1, such as 0.005")
    if task.epochs < 1:
        raise TrainingError(f"{task.epochs} epochs; at least 1 is needed")
    check_rate(task.learning_rate)
    Optimizer(
        task.optimizer,
        weight_decay=task.weight_decay,
        clip_decay=task.clip_decay,
        max_norm=task.max_norm,
    )
