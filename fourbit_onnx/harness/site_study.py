"""The sensitivity of a check's model, site by site, at the end of its first trained recipe."""

from collections.abc import Callable
from typing import Any

from fourbit_onnx.artifacts import checkpoint
from fourbit_onnx.harness.folder import Folder, plain, read_json, write_json
from fourbit_onnx.harness.sensitivity import sensitivity
from fourbit_onnx.recipes import table
from fourbit_onnx.runtime.data_specs import fixed_batch
from fourbit_onnx.runtime.trainer import Trainer

SAMPLES = 32  # of the batch whose gradient is compared, the first of the training data
TEST_BATCHES, TEST_SAMPLES = 4, 128  # for the loss: the first of the test data


def sensitivity_of(folder: Folder, recipe: str, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """What `sensitivity` finds with the trained state of the first seed; kept in the folder.

    Args:
        folder: Of the check, opened.
        recipe: A recipe of it, whose run with the first seed is finished.
        progress: Called with places done and in all.

    Raises:
        FourbitError: The recipe has nothing in 4 bits, or an operator refuses a number.
    """
    path = folder.path / "sensitivity" / f"{recipe}.json"
    if path.exists():
        return read_json(path)
    experiment, trained = folder.experiment(), folder.trained(recipe)
    trainer = Trainer(trained)
    train, test = experiment.arrays(list(trainer.specs), trainer.specs)
    size = fixed_batch(trainer.specs)
    rows = size or TEST_SAMPLES
    found: dict[str, Any] = plain(
        sensitivity(
            experiment.model(experiment.first_seed),
            folder.settings()["recipes"][recipe]["find"],
            checkpoint.read(trained).tensors,
            {name: array[: size or SAMPLES] for name, array in train.items()},
            [
                {name: array[i * rows : (i + 1) * rows] for name, array in test.items()}
                for i in range(TEST_BATCHES)
                if i == 0 or (i + 1) * rows <= len(next(iter(test.values())))
            ],
            loss=experiment.loss,
            progress=progress,
        )
    )
    write_json(path, found)
    return found


def four_bit(folder: Folder, recipes: list[str]) -> str | None:
    """The first of ``recipes`` with products in 4 bits whose trained model is there."""
    for recipe in recipes:
        place = folder.trained(recipe)
        if place.exists() and table.find(folder.settings()["recipes"][recipe]["find"]).arithmetic == "4-bit":
            return recipe
    return None
