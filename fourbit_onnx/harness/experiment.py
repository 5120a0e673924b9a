"""What all runs of a check have in common: task, data, first weights; and how a worker gets hold of them."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import checks, digest
from fourbit_onnx.errors import ArtifactError, DataError, GraphError
from fourbit_onnx.harness.tasks import Task

if TYPE_CHECKING:
    import onnx

    from fourbit_onnx.data.checks import Specs
    from fourbit_onnx.data.dataset import Dataset
    from fourbit_onnx.recipes.recipe import Recipe

Array = NDArray[Any]
HELD_OUT = 5  # without test data, one sample in so many is held out


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A task, or a user's model and data.

    Attributes:
        task: With the settings of every run.
        evaluation: The test data of a user's model; None: the test part of `task.data`, else a fifth of it.
        keys: Where the model's inputs are to be found in a user's data.
        loss: What is minimised, as for `api.convert`.
        keep: Patterns of products that stay in float32, as for `api.convert`.
        first_seed: The seeds are this and those that follow. Settings may be tried out on some, and judged
            on others; the first seed's models stay in the folder.
    """

    task: Task
    evaluation: str | None = None
    keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    loss: str = "cross_entropy"
    keep: Sequence[str] = ()
    first_seed: int = 0

    @property
    def yours(self) -> bool:
        """Whether model and data are a user's files."""
        return self.task.field == "yours"

    def warnings(self, recipes: Iterable["Recipe"]) -> list[str]:
        """What will probably disappoint about training a user's model, a sentence each (`survey.warnings`).

        Raises:
            FourbitError: The model cannot be read or trained, or `keep` fits nothing.
        """
        if not self.yours:
            return []
        from fourbit_onnx.passes.load import load
        from fourbit_onnx.passes.pipeline import Options
        from fourbit_onnx.passes.survey import survey

        model, found = load(Path(self.task.model)), []
        for recipe in recipes:
            if recipe.arithmetic == "4-bit":
                found += survey(model, Options(recipe, loss=self.loss, keep=self.keep)).warnings
        return list(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(fields: Mapping[str, Any]) -> "Experiment":
        """What `to_json` wrote.

        Raises:
            ArtifactError: These are not its fields.
        """
        try:
            return Experiment(**{**fields, "task": Task(**fields["task"])})
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"the settings of the check are damaged ({error}); use a new folder"
            ) from error

    def digests(self) -> dict[str, str]:
        """SHA-256 of the data and of a user's model: what a folder's finished runs depend on.

        Raises:
            DataError: A file cannot be read.
        """
        if not self.yours:
            data = self.built_in()
            return {"data": digest.sha256([*data.train.items(), *data.test.items()])}
        found = {"data": _digest(self.task.data), "model": _digest(self.task.model)}
        if beside := _external(Path(self.task.model)):
            found["weights beside the model"] = " ".join(_digest(str(file)) for file in beside)
        return found | ({"evaluation": _digest(self.evaluation)} if self.evaluation else {})

    def built_in(self) -> "Dataset":
        """The data of a built-in task; the same for every seed."""
        return _built_in(self.task.data)

    def model(self, seed: int) -> "Path | onnx.ModelProto":
        """The first weights of this seed; a user's file has its own.

        Raises:
            GraphError: There is no such model, or the task's options do not fit it.
        """
        if self.yours:
            return Path(self.task.model)
        from fourbit_onnx.models import registry

        if self.task.model not in registry.MODELS:
            raise GraphError(f"no model {self.task.model!r}; there are: {', '.join(registry.MODELS)}")
        takes = inspect.signature(registry.MODELS[self.task.model]).parameters
        fitting = {name: size for name, size in _sizes(self.built_in()).items() if name in takes}
        options = {**fitting, **self.task.model_options}
        try:
            return registry.build(self.task.model, **options, seed=seed)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise GraphError(f"model {self.task.model!r} cannot be built with {options}: {error}") from error

    def arrays(
        self, names: list[str], specs: "Specs | None" = None
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Training and test arrays under the names that the model has for them.

        Raises:
            DataError: The data cannot be read, or is not what the model wants.
        """
        from fourbit_onnx.data import named

        source, keys = self.task.data, self.keys
        if not self.yours:
            data = self.built_in()
            if len(names) != len(data.names):
                raise DataError(
                    f"the task {self.task.name!r} has {_list(data.names)}, the model wants {_list(names)}; "
                    "choose another model"
                )
            train, test = (dict(zip(names, part.values(), strict=True)) for part in (data.train, data.test))
            return train, test
        train = named.find(source, names, keys=keys, split="train", specs=specs)
        if self.evaluation is not None:
            named.check_together(source, self.evaluation)
            return train, named.find(self.evaluation, names, keys=keys, split="test", specs=specs)
        if named.has_parts(source):
            return train, named.find(source, names, keys=keys, split="test", specs=specs)
        if specs is not None:  # messages name samples by their places in the file, not in a part
            checks.structure(train, specs)
            for name, spec in specs.items():
                checks.values(name, train[name], spec)
        return hold_out(train)


def hold_out(arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """One sample in five at random, always the same ones, as test data; both parts keep their order.

    Raises:
        DataError: There are fewer than five samples.
    """
    count = len(next(iter(arrays.values())))
    if count < HELD_OUT:
        raise DataError(
            f"{count} samples are too few to hold some out; give test data with --eval (evaluation=...)"
        )
    # Raw integers: NumPy promises these never to change.
    order = np.argsort(np.random.PCG64(0).random_raw(count), kind="stable")
    test = np.zeros(count, np.bool_)
    test[order[: count // HELD_OUT]] = True
    return (
        {name: array[~test] for name, array in arrays.items()},
        {name: array[test] for name, array in arrays.items()},
    )


def _sizes(data: "Dataset") -> dict[str, Any]:
    """Options of builders that the data decides, by their names there."""
    first = next(iter(data.train.values()))
    found: dict[str, Any] = {}
    if data.classes:
        found["classes"] = len(data.classes)
    if first.dtype.kind == "i":
        found |= {"tokens": len(data.classes), "length": first.shape[1]}
    else:
        found["input_shape"] = first.shape[1:]
    return found


@functools.cache  # some are drawn, not read
def _built_in(name: str) -> "Dataset":
    from fourbit_onnx.data import named

    if name not in named.BUILT_IN:
        raise DataError(f"no data {name!r}; there are: {', '.join(named.BUILT_IN)}")
    return named.BUILT_IN[name]()


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _external(path: Path) -> list[Path]:
    """The files that hold a model's external data."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    from fourbit_onnx.passes.load import load

    load(path)  # refuses a damaged file, and places outside its folder
    tensors = onnx.load_model(path, load_external_data=False).graph.initializer
    entries = [entry for tensor in tensors if uses_external_data(tensor) for entry in tensor.external_data]
    return [path.parent / name for name in sorted({e.value for e in entries if e.key == "location"})]


def _digest(path: str) -> str:
    """SHA-256 of a file; of a folder, of the names and bytes in it."""
    from fourbit_onnx.data import named

    if path in named.BUILT_IN:
        return path
    total, root = hashlib.sha256(), Path(path)
    try:
        for file in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
            total.update(f"{file.relative_to(root)} ".encode())
            with file.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    total.update(block)
    except OSError as error:
        raise DataError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    return total.hexdigest()
