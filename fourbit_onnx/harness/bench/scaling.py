"""The same measurement with more threads, more samples, and models that are deeper, wider or longer."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fourbit_onnx.harness.bench.bench import Settings, Silent, bench
from fourbit_onnx.harness.bench.subjects import BATCH, Subject
from fourbit_onnx.runtime.session import available_processors


def scaling(subject: Subject, settings: Settings, display: Silent | None = None) -> dict[str, Any]:
    """What `bench` gives for the subject as it is, and in ``points`` the rows of every other one.

    ============  =====================================================================
    ``threads``   1, 2, 4, ... up to the processors
    ``batch``     a quarter, half, once, twice the batch size; not where the file fixes it
    others        the sizes of a named model: depth, width, image, length
    ============  =====================================================================

    Raises:
        FourbitError: As `bench`.
    """
    whole = bench(subject, settings, display)
    points = [
        {"axis": axis, "value": value, "rows": bench(other, changed, display)["rows"]}
        for axis, value, other, changed in _points(subject, settings)
    ]
    return {**whole, "points": points}


def _points(subject: Subject, settings: Settings) -> Iterator[tuple[str, Any, Subject, Settings]]:
    threads = 1
    while threads <= available_processors():
        yield "threads", threads, subject, dataclasses.replace(settings, threads=threads)
        threads *= 2
    if not _fixed(subject):
        base = settings.batch_size or subject.batch_size or BATCH
        for size in sorted({max(1, base // 4), max(1, base // 2), base, 2 * base}):
            yield "batch", size, subject, dataclasses.replace(settings, batch_size=size)
    for axis, changes in subject.sizes.items():
        for change in changes:
            (value,) = change.values()
            yield axis, value, subject.sized(change), settings


def _fixed(subject: Subject) -> bool:
    """Whether the model insists on a batch size."""
    from fourbit_onnx.passes.load import load

    model = subject.build()
    graph = (load(model) if isinstance(model, Path) else model).graph
    weights = {tensor.name for tensor in graph.initializer}
    shapes = [item.type.tensor_type.shape.dim for item in graph.input if item.name not in weights]
    return any(shape and shape[0].HasField("dim_value") for shape in shapes)
