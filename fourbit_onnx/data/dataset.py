"""A data set in memory: what to train on and what to test on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fourbit_onnx.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """Training and test arrays, by the names of the graph's inputs; axis 0 counts samples.

    Attributes:
        name: What it is called in reports.
        train: ``{"image": ..., "labels": ...}``: inputs first, labels last.
        test: The same names, other samples.
        classes: What label 0, 1, ... means; empty if labels are no classes.
    """

    name: str
    train: Mapping[str, Array]
    test: Mapping[str, Array]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if list(self.train) != list(self.test):
            raise DataError(f"{self.name}: trains on {list(self.train)} but tests on {list(self.test)}")
        for part, arrays in (("train", self.train), ("test", self.test)):
            lengths = {name: len(array) for name, array in arrays.items()}
            if len(set(lengths.values())) > 1:
                raise DataError(f"{self.name}: the {part} arrays have different lengths: {lengths}")
        for name in self.train:
            if self.train[name].shape[1:] != self.test[name].shape[1:]:
                raise DataError(
                    f"{self.name}: samples of {name!r} have shape {self.train[name].shape[1:]} in train, "
                    f"{self.test[name].shape[1:]} in test"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays' names, in order."""
        return tuple(self.train)
