"""An exported model against the evaluation graph that it was made from, on the same data."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fourbit_onnx.artifacts import manifest as files
from fourbit_onnx.data import batches
from fourbit_onnx.errors import ArtifactError, TrainingError
from fourbit_onnx.runtime.data_specs import fixed_batch
from fourbit_onnx.runtime.evaluate import DIVERGED
from fourbit_onnx.runtime.refusals import first_line
from fourbit_onnx.runtime.session import Session, array, value
from fourbit_onnx.runtime.trainer import Trainer

_BATCH = 64
_SILENT = 4


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What was found.

    Onnxruntime's optimiser merges Conv and BatchNormalization, which moves the last bits of floats; now and
    then a number crosses a rounding threshold, and one code of an activation is another. So the file is held
    to the bits without the optimiser, and to the predictions with it.

    Attributes:
        samples: How many samples were compared.
        same: On how many of them every position has its largest number in the same place (axis 1), on
            onnxruntime as it comes: of a sample with several (tokens, pixels, outputs) all must be the same.
        difference: The largest absolute difference of any output, without onnxruntime's optimiser.
        largest: The largest absolute value of any output.
        classes: Whether an output has two numbers or more along axis 1; else there is nothing to predict.
    """

    samples: int
    same: int
    difference: float
    largest: float
    classes: bool = True

    @property
    def good(self) -> bool:
        """Outputs equal within a thousandth of the largest, predictions on all but a hundredth (or one)."""
        close = self.difference <= 1e-3 * max(self.largest, 1e-30)
        return close and self.samples - self.same <= max(1, self.samples // 100)

    def __str__(self) -> str:
        predictions = f"{self.same:,} of {self.samples:,} predictions the same"
        if not self.classes:
            predictions = f"{self.samples:,} samples, without classes to predict"
        return (
            f"{predictions}; without its optimiser, outputs differ by {self.difference:.2g} at most (they "
            f"reach {self.largest:.2g})"
        )


def compare(trainer: Trainer, model: bytes, data: Mapping[str, npt.NDArray[Any]], file: Path) -> Agreement:
    """Run both on ``data``; the exported model as a stranger would, without our library and settings.

    Args:
        trainer: Of the folder that the model was exported from.
        model: What its file holds.
        data: Arrays by name.
        file: What messages call it; it need not exist.

    Raises:
        ArtifactError: The model cannot be loaded.
        DataError: The data does not fit.
        TrainingError: The folder's outputs are not finite.
    """
    plain, exact = _session(model, file), _session(model, file, optimize=False)
    evaluation = Session(trainer.folder / files.EVAL_MODEL)
    inputs = [tensor.name for tensor in plain.get_inputs()]
    names = [tensor.name for tensor in plain.get_outputs()]
    state = {name: value(tensor) for name, tensor in trainer.state.tensors.items()}
    fixed = fixed_batch(trainer.specs)
    source = batches.source(dict(data), trainer.specs, fixed or _BATCH, drop_last=fixed is not None)
    samples, same, classes = 0, 0, False
    difference = largest = 0.0
    for batch in source.epoch(0):
        feeds = {name: batch[name] for name in inputs}
        results = evaluation.run({**state, **{name: value(part) for name, part in batch.items()}}, names)
        wanted = [array(results[name]).astype(np.float64) for name in names]
        for name, left in zip(names, wanted, strict=True):
            if not np.isfinite(left).all():
                raise TrainingError(
                    f"{trainer.folder} gives {name!r} with NaN or infinity on this data, so {file} cannot "
                    f"be compared with it: {DIVERGED}"
                )
        agree = np.ones(len(next(iter(batch.values()))), np.bool_)
        for left, right in zip(wanted, plain.run(names, feeds), strict=True):
            if left.ndim >= 2 and left.shape[1] > 1 and len(left) == len(agree):
                classes = True
                agree &= (left.argmax(1) == right.argmax(1)).reshape(len(agree), -1).all(1)
        for left, right in zip(wanted, exact.run(names, feeds), strict=True):
            off = np.abs(left - right).max(initial=0)
            difference = max(difference, float("inf") if np.isnan(off) else float(off))
            largest = max(largest, float(np.abs(left).max(initial=0)))
        samples, same = samples + len(agree), same + int(agree.sum())
    return Agreement(samples, same, difference, largest, classes)


def _session(model: bytes, file: Path, *, optimize: bool = True) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever ONNX Runtime raises here means the same
        raise ArtifactError(f"{file} cannot be loaded by onnxruntime ({first_line(error)})") from error
