"""Batches of a data set: arrays in a seeded order that can be entered anywhere, or any iterable.

A batch is a dictionary, graph input to array; axis 0 counts samples.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fourbit_onnx.data import checks, digest
from fourbit_onnx.data.checks import Array, Specs
from fourbit_onnx.errors import DataError

Batch = dict[str, Array]


class Batches(Protocol):
    """Where batches come from."""

    def count(self) -> int | None:
        """Batches in an epoch; None if not known before it is over."""

    def samples(self) -> int | None:
        """Samples in an epoch; None if not known."""

    def digest(self) -> str | None:
        """SHA-256 of all samples as they are trained on; None if not known before they come."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without its first ``start``."""

    def first(self, count: int) -> list[Batch]:
        """The first batches of epoch 0; they come again in that epoch."""


def shuffled(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """An order of ``count`` samples that depends on seed and epoch only.

    Sorted by the raw output of Philox, whose stream NumPy keeps from version to version (unlike that of
    ``Generator.permutation``), so an old run can be repeated.
    """
    keys = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(count)
    return np.argsort(np.asarray(keys), kind="stable")


class ArrayBatches:
    """Batches of arrays, in their own order or shuffled.

    Args:
        arrays: One array an input, equally long.
        specs: What the graph wants.
        batch_size: Samples in a batch; the last of an epoch may have fewer.
        seed: Seed of the order; None: as the samples come.
        drop_last: Whether to leave out a last batch that is not full.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        specs: Specs,
        batch_size: int,
        *,
        seed: int | None = None,
        drop_last: bool = False,
    ) -> None:
        checks.structure(arrays, specs)
        self._arrays, self._specs, self._seed = arrays, specs, seed
        self._size, self._length = batch_size, len(next(iter(arrays.values())))
        if batch_size < 1:
            raise DataError(f"batch size {batch_size}: a batch has at least one sample")
        if self._length == 0:
            raise DataError("the data set is empty: every array has 0 samples; give some")
        if drop_last and self._length < batch_size:
            raise DataError(
                f"{self._length} samples do not fill one batch of {batch_size}; use a smaller batch"
            )
        self._used = self._length // batch_size * batch_size if drop_last else self._length
        # A file mapped into memory may be larger than the memory: its values are looked at batch by batch.
        self._unchecked = {name for name in specs if isinstance(arrays[name], np.memmap)}
        for name in specs:
            if name not in self._unchecked:
                checks.values(name, arrays[name], specs[name])

    def count(self) -> int:
        """Batches in an epoch."""
        return -(-self._used // self._size)

    def samples(self) -> int:
        """Samples in an epoch, those of a last batch that is left out not among them."""
        return self._used

    def digest(self) -> str:
        """SHA-256 of all samples in the types of the graph."""
        arrays = [(name, self._arrays[name]) for name in self._specs]
        return digest.sha256(arrays, {name: spec.dtype for name, spec in self._specs.items()})

    @property
    def left_out(self) -> int:
        """Samples that no batch of an epoch holds, because they do not fill one."""
        return self._length - self._used

    def rows(self, epoch: int) -> npt.NDArray[np.int64]:
        """The samples of an epoch in their order, as rows of the arrays."""
        if self._seed is None:
            return np.arange(self._used)
        return shuffled(self._seed, epoch, self._length)[: self._used]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, without its first ``start``, which cost nothing."""
        rows = self.rows(epoch)
        for begin in range(start * self._size, self._used, self._size):
            yield self._take(rows[begin : begin + self._size])

    def first(self, count: int) -> list[Batch]:
        """The first batches of epoch 0."""
        return list(itertools.islice(self.epoch(0), count))

    def _take(self, rows: npt.NDArray[np.int64]) -> Batch:
        batch = {}
        for name, spec in self._specs.items():
            part = self._arrays[name][rows]
            if name in self._unchecked:
                checks.values(name, part, spec, rows)
            batch[name] = checks.cast(part, spec)
        return batch


class StreamBatches:
    """Batches from an iterable: a PyTorch DataLoader, a list, a generator, or a function of the epoch.

    Each batch is a dictionary, or a tuple or list in the order inputs, targets; its arrays are NumPy arrays
    or have ``numpy()`` or ``__array__``. A resumed run is the same to the bit if the batches are the same.
    """

    def __init__(self, data: Iterable[Any] | Callable[[int], Iterable[Any]], specs: Specs) -> None:
        self._data, self._specs = data, specs
        self._peeked: list[Batch] = []
        self._rest: Iterator[Any] | None = None

    def count(self) -> int | None:
        """Batches in an epoch, if the iterable has a length."""
        try:
            return len(self._data)  # type: ignore[arg-type]
        except TypeError:
            return None

    def samples(self) -> None:
        """Not known."""

    def digest(self) -> None:
        """Not known."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch; the first ``start`` are drawn and thrown away.

        Raises:
            DataError: A batch does not fit, or there is none (the iterable was used up).
        """
        peeked, rest = self._peeked, self._rest
        self._peeked, self._rest = [], None
        position = -1
        raw = self._iterator(epoch) if rest is None else itertools.chain(peeked, rest)
        for position, batch in enumerate(raw):
            if position >= start:
                yield batch if position < len(peeked) else one(batch, self._specs)
        if position < 0:
            raise DataError(
                f"the data has no batch in epoch {epoch}; an iterator gives its batches once: pass a list, "
                "a DataLoader, or a function from epoch to batches"
            )
        if position + 1 < start:
            raise DataError(
                f"the data has {position + 1} batches, but the checkpoint was saved after batch {start} of "
                "the epoch; resume with the data that the run was started with"
            )

    def first(self, count: int) -> list[Batch]:
        """The first batches of epoch 0, kept and given again when that epoch begins."""
        self._rest = self._iterator(0)
        self._peeked = [one(batch, self._specs) for batch in itertools.islice(self._rest, count)]
        return self._peeked

    def _iterator(self, epoch: int) -> Iterator[Any]:
        return iter(self._data(epoch) if callable(self._data) else self._data)


def one(batch: Any, specs: Specs) -> Batch:
    """A single batch, checked and in the types of the graph.

    Raises:
        DataError: It does not fit.
    """
    arrays = named(batch, list(specs))
    checks.structure(arrays, specs)
    for name, spec in specs.items():
        if len(arrays[name]) == 0:
            raise DataError(f"a batch is empty: {name} has 0 samples; leave it out")
        if isinstance(spec.shape[0], int) and spec.shape[0] != len(arrays[name]):
            raise DataError(
                f"a batch has {len(arrays[name])} samples, the model takes {spec.shape[0]} at a time; leave "
                "out a last batch that is not full (drop_last), or convert a model with a free batch axis"
            )
        checks.values(name, arrays[name], spec)
    return {name: checks.cast(arrays[name], spec) for name, spec in specs.items()}


def named(data: Any, names: Sequence[str]) -> dict[str, Array]:
    """Arrays by name, from a dictionary, a tuple or list in the order of ``names``, or a single array.

    Raises:
        DataError: Not as many as there are names.
    """
    if isinstance(data, Mapping):
        return {str(name): to_numpy(value, str(name)) for name, value in data.items()}
    parts = list(data) if isinstance(data, (tuple, list)) else [data]
    if len(parts) != len(names):
        raise DataError(
            f"{len(parts)} array{'s' * (len(parts) != 1)} given, the model wants {len(names)}: "
            f"{', '.join(names)}, in this order"
        )
    return {name: to_numpy(value, name) for name, value in zip(names, parts, strict=True)}


def to_numpy(value: Any, name: str) -> Array:
    """A NumPy array of ``value``: one already, a tensor with ``detach`` or ``numpy``, or a sequence.

    Raises:
        DataError: NumPy cannot hold it.
    """
    try:
        if isinstance(value, np.ndarray):
            return value
        if hasattr(value, "detach"):
            value = value.detach()
        return np.asarray(value.numpy() if hasattr(value, "numpy") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{name} cannot be made a NumPy array ({error}); pass NumPy arrays") from error


def source(
    data: Any, specs: Specs, batch_size: int | None, *, seed: int | None = None, drop_last: bool = False
) -> Batches:
    """The batches of ``data``: a dictionary or tuple of arrays, one array, or an iterable of batches.

    Raises:
        DataError: It is none of these, or does not fit the model.
    """
    whole = isinstance(data, Mapping) or hasattr(data, "__array__")
    whole |= isinstance(data, tuple) and all(hasattr(part, "__array__") for part in data)
    if not whole:
        if not (callable(data) or hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
            raise DataError(f"{type(data).__name__} is no data: pass arrays, or an iterable of batches")
        return StreamBatches(data, specs)
    if batch_size is None:
        raise DataError("arrays need a batch size: pass batch_size")
    return ArrayBatches(named(data, list(specs)), specs, batch_size, seed=seed, drop_last=drop_last)
