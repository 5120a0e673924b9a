"""CSV: one sample a line, numbers; one column is the label."""

import array
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import paths
from fourbit_onnx.errors import DataError

Array = NDArray[Any]
LARGEST = 3.4028235e38  # of float32


def read(
    path: Path,
    names: Sequence[str] = ("image", "labels"),
    *,
    label: str | None = None,
    limit: int = paths.LIMIT,
) -> dict[str, Array]:
    """The columns as ``names[0]``, float32 (N, columns), and the label as ``names[1]``, (N,).

    A first line that is not all numbers is a header. The label is the column of the name ``label``, else one
    called as ``names[1]``, "label" or "target", else the last. Labels are int64 if all are whole numbers,
    else float32. Empty lines are passed over; the text is UTF-8.

    Raises:
        DataError: The file is missing, empty or too large, or a line does not fit; the message says which.
    """
    with paths.opened(path) as raw:
        size = raw.seek(0, 2)
        raw.seek(0)
        # A digit and a comma become two doubles and a float on the way: ten bytes for one of text.
        paths.check_size(10 * size, limit, str(path), "save the numbers as .npy files in a folder")
        text = io.TextIOWrapper(raw, "utf-8-sig", newline="")
        rows = _rows(text, path)
        first, header = next(rows, (0, []))
        if not header:
            raise DataError(f"{path} is empty; give a file with a sample a line")
        width, numbers = len(header), array.array("d")
        head = None if _is_number_row(header) else header
        place = _label_column(head, width, label, names[1], path)
        if width < 2:
            raise DataError(
                f"{path} has one column; give at least one number and the label, separated by commas"
            )
        if head is None:
            _append(numbers, header, width, path, first)
        for line, fields in rows:
            _append(numbers, fields, width, path, line)
        text.detach()
    values = np.frombuffer(numbers, np.float64).reshape(-1, width)
    if not len(values):
        raise DataError(f"{path} has a header and no samples; give a file with a sample a line")
    labels = values[:, place]
    whole = bool((np.abs(labels) < 2**53).all() and (labels == np.rint(labels)).all())
    inputs = np.delete(values, place, axis=1).astype(np.float32)
    return {names[0]: inputs, names[1]: labels.astype(np.int64 if whole else np.float32)}


def _rows(text: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(text, strict=True)
    try:
        for fields in reader:
            if fields and (len(fields) > 1 or fields[0].strip()):
                yield reader.line_num, fields
    except (csv.Error, UnicodeDecodeError) as error:
        place = f"after line {reader.line_num}" if reader.line_num else "at its beginning"
        raise DataError(f"{path}, {place}: {error}; save it as CSV in UTF-8") from error


def _is_number_row(fields: list[str]) -> bool:
    return all(_number(field) is not None for field in fields)


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if "_" not in field else None  # Python's 1_000 is nobody's CSV


def _label_column(head: list[str] | None, width: int, label: str | None, name: str, path: Path) -> int:
    titles = [] if head is None else [title.strip() for title in head]
    if label is not None:
        if label not in titles:
            has = f"its header has: {', '.join(titles)}" if titles else "it has no header"
            raise DataError(f"{path} has no column {label!r}; {has}")
        return titles.index(label)
    return next((titles.index(title) for title in (name, "label", "target") if title in titles), width - 1)


def _append(numbers: "array.array[float]", fields: list[str], width: int, path: Path, line: int) -> None:
    if len(fields) != width:
        raise DataError(
            f"{path}, line {line}: {len(fields)} columns, {width} expected as in the first line; "
            "complete or remove it"
        )
    for column, field in enumerate(fields, 1):
        value = _number(field)
        if value is None or not abs(value) <= LARGEST:
            raise DataError(
                f"{path}, line {line}, column {column}: {field[:40]!r} is no finite float32; replace it"
            )
        numbers.append(value)
