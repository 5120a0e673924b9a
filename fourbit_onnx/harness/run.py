"""One run: a recipe with a seed, from the first weights to its result file."""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fourbit_onnx import api
from fourbit_onnx.artifacts.manifest import PLAN
from fourbit_onnx.errors import DataError, RecipeError, TrainingError
from fourbit_onnx.harness.folder import ARTIFACTS, Folder, described, plain, read_json, write_json
from fourbit_onnx.harness.observe import Observer
from fourbit_onnx.recipes import plan, table
from fourbit_onnx.recipes.recipe import Recipe
from fourbit_onnx.runtime import library, schedules
from fourbit_onnx.runtime.data_specs import fixed_batch
from fourbit_onnx.runtime.progress import Display
from fourbit_onnx.runtime.trainer import Trainer

NOTES = "notes.json"
OBSERVED = 32  # samples that observations are made on, the first of the training data: all is kept in memory


def run(folder: Folder, recipe: str, seed: int, *, observe: bool, display: Callable[[int], Display]) -> bool:
    """Train from where the run is, and write its file when it ends.

    Everything runs on one thread. A run that cannot go on (TrainingError) ends, too: its file holds the
    sentence.

    Args:
        folder: The folder of the check, opened.
        recipe: A name of its settings.
        seed: Of first weights (but for a user's model), order of the data and random numbers.
        observe: Whether to look at the quantisers after some epochs.
        display: From the number of steps of the run to what shows its progress.

    Returns:
        Whether it ended; False: it was interrupted, and is saved.

    Raises:
        FourbitError: Model, recipe or data will not do, whatever the seed.
    """
    experiment, work = folder.experiment(), folder.work(recipe, seed)
    task, artifacts = experiment.task, work / ARTIFACTS
    if not artifacts.exists():
        api.convert(
            experiment.model(seed),
            artifacts,
            recipe=_settled(folder, recipe),
            loss=experiment.loss,
            optimizer=task.optimizer,
            weight_decay=task.weight_decay,
            clip_decay=task.clip_decay,
            max_norm=task.max_norm,
            keep=experiment.keep,
        )
    trainer = Trainer(artifacts, threads=1)
    train, test = experiment.arrays(list(trainer.specs), trainer.specs)
    batch = task.batch_size or fixed_batch(trainer.specs) or _count(train)
    notes = _Notes(folder, recipe, seed)
    size = fixed_batch(trainer.specs) or min(batch, OBSERVED)
    observed = {name: array[:size] for name, array in train.items()}
    looker = Observer(trainer, observed, task.epochs) if observe else None

    def after_epoch(epoch: int, record: Mapping[str, float]) -> None:
        if looker is not None and epoch in looker.epochs:
            notes.observations[epoch] = looker.look(epoch)
        notes.write()

    result: dict[str, Any] = {"metric": None, "epochs": [], "error": None}
    try:
        history = trainer.fit(
            train,
            evaluation=test,
            epochs=task.epochs,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            schedule=schedules.named(task.schedule, task.warmup),
            seed=seed,
            resume=trainer.state.progress.step > 0,
            progress=display(task.epochs * -(-_count(train) // batch)),
            after_epoch=after_epoch,
        )
        notes.write()
        if history.interrupted:
            return False
        result |= {"metric": _metric(task.metric, history.epochs[-1]), "epochs": history.epochs}
    except TrainingError as error:
        result |= {"error": str(error), "epochs": trainer.state.progress.history}
    kept = seed == experiment.first_seed and result["error"] is None
    if kept:  # before the run counts as finished: a full disk would lose its model
        folder.trained(recipe).parent.mkdir(exist_ok=True)
    write_json(
        folder.run(recipe, seed),
        plain(
            {
                "recipe": recipe,
                "seed": seed,
                **result,
                "seconds": notes.seconds(),
                "four_bit_share": plan.read(artifacts / PLAN).share,
                "observations": [notes.observations[epoch] for epoch in sorted(notes.observations)],
                "kernels": library.isa(),
                "samples": {"train": _count(train), "test": _count(test)},
            }
        ),
    )
    if kept:
        _keep(artifacts, folder.trained(recipe))
    shutil.rmtree(work, ignore_errors=True)
    return True


def _settled(folder: Folder, name: str) -> Recipe:
    """The recipe as it was when the check began; a TOML file may have been edited since.

    Raises:
        RecipeError: It was.
    """
    settled = folder.settings()["recipes"][name]
    found = table.find(settled["find"])
    if plain(described(found)) != settled["content"]:
        raise RecipeError(
            f"{settled['find']} was changed since the check began; put it back, or rename the changed one"
        )
    return found


def _metric(metric: str, record: Mapping[str, float]) -> float:
    """The metric of the last epoch's evaluation; not of the best one, which the test data would choose."""
    if metric == "bits_per_character":
        return record["eval_loss"] / math.log(2)
    if f"eval_{metric}" not in record:
        raise DataError(f"the model has no metric {metric!r}; there are: accuracy (class labels), loss")
    return record[f"eval_{metric}"]


def _keep(artifacts: Path, place: Path) -> None:
    """The trained model of the first seed stays: to be exported, and looked into."""
    shutil.rmtree(place, ignore_errors=True)
    artifacts.rename(place)


def _count(arrays: Mapping[str, Any]) -> int:
    return len(next(iter(arrays.values())))


class _Notes:
    """What a run must remember over an interruption, beside the checkpoint: its seconds, observations."""

    def __init__(self, folder: Folder, recipe: str, seed: int) -> None:
        self._path = folder.work(recipe, seed) / NOTES
        kept: dict[str, Any] = {"seconds": 0.0, "observations": []}
        if self._path.exists():
            kept = read_json(self._path)
        self._before, self._began = float(kept["seconds"]), time.perf_counter()
        self.observations: dict[int, Any] = {entry["epoch"]: entry for entry in kept["observations"]}

    def seconds(self) -> float:
        """Of training and evaluation, over all parts of the run."""
        return self._before + time.perf_counter() - self._began

    def write(self) -> None:
        """Keep them."""
        write_json(
            self._path,
            plain({"seconds": self.seconds(), "observations": list(self.observations.values())}),
        )
