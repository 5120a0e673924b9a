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
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.runtime.data_specs import fixed_batch
from fourbit_onnx.runtime.refusals import first_line
from fourbit_onnx.runtime.session import Session, array, value
from fourbit_onnx.runtime.trainer import Trainer

_BATCH = 64
_SILENT = 4


@dataclasses.dataclass(frozen=True)
class Agreement:
    """What was found.

    Attributes:
        samples: How many samples were compared.
        same: On how many of them every position has its largest number in the same place (axis 1).
        difference: The largest absolute difference of any output.
        largest: The largest absolute value of any output.
    """

    samples: int
    same: int
    difference: float
    largest: float

    @property
    def good(self) -> bool:
        """All predictions are the same, and no output is off by more than a thousandth of the largest."""
        return self.same == self.samples and self.difference <= 1e-3 * max(self.largest, 1e-30)

    def __str__(self) -> str:
        return (
            f"{self.same:,} of {self.samples:,} predictions the same, "
            f"largest difference {self.difference:.2g} (outputs reach {self.largest:.2g})"
        )


def compare(trainer: Trainer, model: Path, data: Mapping[str, npt.NDArray[Any]]) -> Agreement:
    """Run both on ``data``; the exported model as a stranger would, without our library and settings.

    Raises:
        ArtifactError: The file cannot be loaded.
        DataError: The data does not fit.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    try:
        plain = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever ONNX Runtime raises here means the same
        raise ArtifactError(f"{model} cannot be loaded by onnxruntime ({first_line(error)})") from error
    evaluation = Session(trainer.folder / files.EVAL_MODEL)
    names = [output.name for output in plain.get_outputs()]
    state = {name: value(tensor) for name, tensor in trainer.state.tensors.items()}
    source = batches.source(
        dict(data),
        trainer.specs,
        fixed_batch(trainer.specs) or _BATCH,
        drop_last=fixed_batch(trainer.specs) is not None,
    )
    samples = same = 0
    difference = largest = 0.0
    for batch in source.epoch(0):
        wanted = evaluation.run({**state, **{name: value(part) for name, part in batch.items()}}, names)
        found = plain.run(
            names, {name: batch[name] for name in (tensor.name for tensor in plain.get_inputs())}
        )
        agree = np.ones(len(next(iter(batch.values()))), np.bool_)
        for name, right in zip(names, found, strict=True):
            left = array(wanted[name])
            difference = max(difference, float(np.abs(left.astype(np.float64) - right).max(initial=0)))
            largest = max(largest, float(np.abs(left).max(initial=0)))
            if left.ndim >= 2 and len(left) == len(agree):
                equal = left.argmax(1) == right.argmax(1)
                agree &= equal.reshape(len(agree), -1).all(1)
        samples, same = samples + len(agree), same + int(agree.sum())
    return Agreement(samples, same, difference, largest)
