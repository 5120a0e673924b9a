"""What a step is measured on: the models of the tables, or a user's file."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import DataError
from fourbit_onnx.runtime.data_specs import fixed_batch

if TYPE_CHECKING:
    import onnx

BATCH = 32  # of a user's model that takes any
SEED = 0
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model with its batch.

    Attributes:
        name: What it is called: a key of `SUBJECTS`, or the path of a file.
        model: A name of `models.registry.MODELS`; "" for a user's file.
        options: What the builder gets.
        batch_size: Samples in a step; None: what the file insists on, else `BATCH`.
        loss: As for `api.convert`.
        sizes: For `fourbit bench --scaling`: what grows, to the values of one option of the builder.
    """

    name: str
    model: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int | None = None
    loss: str = "cross_entropy"
    sizes: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)

    def build(self) -> "onnx.ModelProto | Path":
        """The float32 model, as `api.convert` takes it."""
        if not self.model:
            return Path(self.name)
        from fourbit_onnx.models import registry

        return registry.build(self.model, **self.options, seed=SEED)

    def sized(self, change: Mapping[str, Any]) -> "Subject":
        """With other options of the builder; ``model`` among them is another builder."""
        options = {**self.options, **change}
        model = str(options.pop("model", self.model))
        return dataclasses.replace(self, model=model, options=options)

    def batch(self, specs: Mapping[str, Spec], size: int | None = None) -> dict[str, Array]:
        """One batch of random numbers, the same for every recipe.

        Floats are standard normal (0 or 1 where a loss wants these), labels cover the classes, token numbers
        the table of the model; in a user's file, whose tables nobody knows, they are 0 and 1.

        Raises:
            DataError: The model wants another batch size, or leaves a size beside the batch open.
        """
        fixed = fixed_batch(dict(specs))
        if fixed is not None and size not in (None, fixed):
            raise DataError(f"batch size {size}: the model takes {fixed} samples at a time; use that")
        rng = np.random.Generator(np.random.PCG64(SEED))
        count = fixed or size or self.batch_size or BATCH
        return {name: self._draw(rng, spec, count) for name, spec in specs.items()}

    def _draw(self, rng: np.random.Generator, spec: Spec, count: int) -> Array:
        shape = [count, *(size for size in spec.shape[1:] if isinstance(size, int))]
        if len(shape) < len(spec.shape):
            unknown = next(size for size in spec.shape[1:] if not isinstance(size, int))
            raise DataError(
                f"the size {unknown or '?'!r} of {spec.name!r} is open, so no data can be made up for it; "
                "export the model with fixed sizes beside the batch"
            )
        if spec.dtype.kind == "f":
            found = rng.integers(0, 2, shape) if spec.unit else rng.standard_normal(shape)
            return np.asarray(found, spec.dtype)
        if spec.dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(np.bool_)
        below = spec.classes or int(self.options.get("tokens", 2))
        return rng.integers(0, below, shape).astype(spec.dtype)


_RESNET = {"input_shape": (3, 32, 32), "classes": 10, "stem": "small", "width": 64}
_TRANSFORMER = {"tokens": 1000, "classes": 10, "length": 128, "width": 512, "heads": 8, "layers": 6}
_LSTM = {"tokens": 96, "length": 64, "width": 256, "hidden": 512, "layers": 1}

SUBJECTS: Mapping[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject(
            "resnet18",
            "resnet18",
            _RESNET,
            batch_size=32,
            sizes={
                "depth": [{"model": name} for name in ("resnet8", "resnet14", "resnet20")],
                "width": [{"width": width} for width in (16, 32, 64)],
                "image": [{"input_shape": (3, size, size)} for size in (16, 32, 64)],
            },
        ),
        Subject(
            "mobilenetv2",
            "mobilenetv2",
            {"input_shape": (3, 64, 64), "classes": 10, "full": True},
            batch_size=32,
            sizes={
                "width": [{"width": width} for width in (0.5, 1.0)],
                "image": [{"input_shape": (3, size, size)} for size in (32, 64)],
            },
        ),
        Subject(
            "transformer",
            "transformer",
            _TRANSFORMER,
            batch_size=8,
            sizes={
                "depth": [{"layers": layers} for layers in (2, 4, 6)],
                "width": [{"width": width} for width in (128, 256, 512)],
                "length": [{"length": length} for length in (32, 64, 128, 256)],
            },
        ),
        Subject(
            "lstm",
            "lstm_lm",
            _LSTM,
            batch_size=32,
            sizes={
                "depth": [{"layers": layers} for layers in (1, 2)],
                "width": [{"hidden": hidden} for hidden in (128, 256, 512)],
                "length": [{"length": length} for length in (16, 32, 64)],
            },
        ),
    )
}
