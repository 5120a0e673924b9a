"""Loss and metrics of the model on a data set."""

import math
from collections.abc import Mapping

from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.data.batches import Batches
from fourbit_onnx.errors import TrainingError
from fourbit_onnx.runtime.interrupt import Interrupt
from fourbit_onnx.runtime.metrics import added, means
from fourbit_onnx.runtime.session import Session, Values, array, value

DIVERGED = (
    "training has diverged, or the data is far from what the model was trained on; lower the learning rate "
    "or warm it up, and train again"
)


def evaluate(
    session: Session, manifest: Manifest, values: Values, batches: Batches, interrupt: Interrupt | None = None
) -> dict[str, float]:
    """Means over the samples: ``loss``, and the manifest's metrics.

    Args:
        session: ``eval_model.onnx``.
        manifest: The names of its outputs.
        values: The state.
        batches: The data.
        interrupt: Ends the evaluation when asked; the result is then of the batches so far.

    Raises:
        DataError: A batch does not fit.
        TrainingError: An operator refuses its input.
    """
    totals: dict[str, float] = {}
    names = {"loss": manifest.loss_output, **manifest.metrics}
    for position, batch in enumerate(batches.epoch(0)):
        feeds = {**values, **{name: value(part) for name, part in batch.items()}}
        results = session.run(feeds, list(names.values()), f"evaluation, batch {position}")
        numbers = {name: float(array(results[output])) for name, output in names.items()}
        totals = added(totals, numbers, len(next(iter(batch.values()))))
        if interrupt is not None and interrupt.asked:
            break
    return means(totals)


def require_finite(numbers: Mapping[str, float], where: str) -> None:
    """Refuse what `evaluate` gave if its loss is NaN or infinite.

    Raises:
        TrainingError: It is; ``where`` is said first.
    """
    if "loss" in numbers and not math.isfinite(numbers["loss"]):
        raise TrainingError(f"{where}: the loss is {numbers['loss']}: {DIVERGED}")
