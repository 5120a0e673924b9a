"""First values of the PACT clips, from the first batches."""

import math
from collections.abc import Sequence

import numpy as np

from fourbit_onnx.artifacts.manifest import Manifest
from fourbit_onnx.data.batches import Batch
from fourbit_onnx.errors import TrainingError
from fourbit_onnx.runtime.session import Session, Value, Values, array, value

BATCHES = 4
SMALLEST = 1e-6  # a layer that gives only zeros still gets a clip that can be divided by


def missing(manifest: Manifest, values: Values) -> list[str]:
    """The clips that were never set: they are 0."""
    return [name for name in manifest.clips if not float(array(values[name]).reshape(()))]


def calibrate(
    session: Session, manifest: Manifest, values: Values, clips: Sequence[str], batches: Sequence[Batch]
) -> dict[str, Value]:
    """First values of ``clips``: the mean over the batches of what ``calibration_model.onnx`` gives.

    Raises:
        TrainingError: A value is not finite: the model, or the data, is out of hand before training.
    """
    sums = dict.fromkeys(clips, 0.0)
    for batch in batches:
        feeds = {**values, **{name: value(part) for name, part in batch.items()}}
        results = session.run(feeds, [manifest.clips[name] for name in clips], "calibration")
        for name in clips:
            sums[name] += float(array(results[manifest.clips[name]]).reshape(()))
    for name, total in sums.items():
        if not math.isfinite(total):
            raise TrainingError(
                f"calibration: the activations that {name!r} clips reach {total / len(batches)}; "
                "check the model's weights and the scale of the data"
            )
    return {
        name: value(np.full(values[name].shape(), max(total / len(batches), SMALLEST), np.float32))
        for name, total in sums.items()
    }
