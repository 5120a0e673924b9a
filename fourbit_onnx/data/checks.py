"""Data held against what the model wants: names, types, shapes, values; every refusal is one sentence."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fourbit_onnx.errors import DataError

Array = npt.NDArray[Any]

_ROWS = 1 << 22  # values looked at in one go: bounds the memory of a check


@dataclasses.dataclass(frozen=True)
class Spec:
    """What one data input of a graph takes.

    Attributes:
        name: Its name.
        dtype: Its element type.
        shape: Its sizes; a name or None where any size will do. Axis 0 counts samples.
        classes: Labels are 0..classes-1; None if any integer will do.
        unit: Whether values must be within 0..1 (targets of a binary cross-entropy).
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    classes: int | None = None
    unit: bool = False


Specs = Mapping[str, Spec]


def structure(arrays: Mapping[str, Array], specs: Specs) -> None:
    """Check names, types, shapes and lengths, not values.

    Raises:
        DataError: Something does not fit.
    """
    for name in specs:
        if name not in arrays:
            raise DataError(
                f"the data has no {name!r}; it has {_names(arrays)}, the model wants {_names(specs)}"
            )
    for name in arrays:
        if name not in specs:
            raise DataError(f"the model has no input {name!r}; it wants {_names(specs)}: leave {name!r} out")
    sizes: dict[str, tuple[int, str]] = {}
    for name, spec in specs.items():
        if arrays[name].dtype.kind != "O":  # samples of several shapes, which is for the next line to say
            _check_shape(arrays[name], spec)
        _check_type(arrays[name], spec)
        for axis, wanted in enumerate(spec.shape[1:], 1):
            found = arrays[name].shape[axis]
            if isinstance(wanted, str) and sizes.setdefault(wanted, (found, name))[0] != found:
                other, first = sizes[wanted]
                raise DataError(
                    f"{name} has {found} along axis {axis}, {first} has {other}; the model calls both "
                    f"{wanted!r} and wants them equal: cut or pad one of them"
                )
    lengths = {name: len(arrays[name]) for name in specs}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"the arrays have different numbers of samples: {counts}; give one label a sample")


def values(name: str, array: Array, spec: Spec, rows: Array | None = None) -> None:
    """Check that numbers are finite and labels in range.

    Args:
        name: The array's name, for the message.
        array: Some samples.
        spec: What is wanted.
        rows: The place of each sample in the whole data set, for the message; None: as they come.

    Raises:
        DataError: A value is refused; the message says where it is.
    """
    step = max(1, _ROWS // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        part = np.asarray(array[start : start + step])
        refused = _refused(part, spec)
        if refused is None or not refused.any():
            continue
        place = np.unravel_index(int(np.argmax(refused)), refused.shape)
        sample = int(place[0]) + start
        row = sample if rows is None else int(rows[sample])
        index = ", ".join(str(number) for number in (row, *(int(axis) for axis in place[1:])))
        raise DataError(_value_message(f"{name}[{index}]", part[place], spec))


def cast(array: Array, spec: Spec) -> Array:
    """The array in the type of the graph, in one piece in memory; `structure` has allowed it."""
    return np.asarray(array, dtype=spec.dtype, order="C")


def _check_type(array: Array, spec: Spec) -> None:
    found, wanted = array.dtype, spec.dtype
    if found == wanted or (found.kind == wanted.kind == "f"):
        return
    if found.kind in "iu" and wanted.kind in "iu" and np.can_cast(found, wanted, "safe"):
        return
    called = "text" if found.kind in "US" else str(found)
    if called == "text":
        remedy = f"give numbers, of classes their index: numpy.unique({spec.name}, return_inverse=True)[1]"
    elif found.kind == "O":
        remedy = "make all samples the same shape and numeric"
    elif wanted.kind == "f":
        remedy = f"convert it with {spec.name}.astype(np.{wanted})"
        remedy += " / 255 if these are pixels" if found == np.uint8 else ""
    elif found.kind == "f" and not _whole(array):
        remedy = "it has numbers that are not whole: give "
        if len(spec.shape) == 1:  # one a sample: a label
            remedy += "the index of each sample's class, 0, 1, 2, ... (of a CSV the last column, unless "
            remedy += f"--key {spec.name}=NAME names another)"
        else:
            remedy += "integers"
    else:
        remedy = f"convert it with {spec.name}.astype(np.{wanted})"
    raise DataError(f"{spec.name} is {called}, the model wants {wanted}; {remedy}")


def _whole(array: Array) -> bool:
    """Whether a conversion to integers loses nothing."""
    step = max(1, _ROWS // max(1, int(np.prod(array.shape[1:]))))
    parts = (np.asarray(array[start : start + step]) for start in range(0, len(array), step))
    return all(bool((np.isfinite(part) & (part == np.rint(part))).all()) for part in parts)


def _check_shape(array: Array, spec: Spec) -> None:
    if _fits(array.shape, spec.shape):
        return
    wanted = ", ".join(str(size) if size is not None else "any" for size in spec.shape)
    wanted = f"({wanted},)" if len(spec.shape) == 1 else f"({wanted})"
    remedy = _remedy(array.shape, spec)
    raise DataError(f"{spec.name} has shape {array.shape}, the model wants {wanted}; {remedy}")


def _fits(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        found == size for found, size in zip(shape[1:], wanted[1:], strict=True) if isinstance(size, int)
    )


def _remedy(shape: tuple[int, ...], spec: Spec) -> str:
    """What to type so that the shape fits, where one of the usual slips explains it."""
    rank, name = len(shape), spec.name
    if spec.dtype.kind == "i" and rank == len(spec.shape) + 1:
        if shape[-1] == 1:
            return f"write {name}[..., 0]"
        return f"if these are one-hot labels, write {name}.argmax(-1)"
    if rank > 2:
        order = (0, rank - 1, *range(1, rank - 1))
        if _fits(tuple(shape[axis] for axis in order), spec.shape):
            return f"put the channels first: {name}.transpose{order}"
    if rank >= 1 and _fits((shape[0], 1, *shape[1:]), spec.shape):
        return f"write {name}[:, None]"
    if rank >= 1 and _fits((*shape, 1), spec.shape):
        return f"write {name}[..., None]"
    flat = spec.shape[1] if len(spec.shape) == 2 and rank > 2 else None
    if isinstance(flat, int) and int(np.prod(shape[1:])) == flat:
        return f"write {name}.reshape(len({name}), -1)"
    if rank == 2 and len(spec.shape) > 2:  # all that a CSV file can hold
        return (
            "reshape the data (a CSV has no shape: save it as an .npz with one), or convert a model made for "
            "this shape"
        )
    return "reshape the data, or convert a model made for this shape"


def _refused(part: Array, spec: Spec) -> npt.NDArray[np.bool_] | None:
    """Where a value is refused; None if every value of this kind is welcome."""
    if spec.dtype.kind == "f":
        if part.dtype.kind == "f" and part.dtype.itemsize > spec.dtype.itemsize:
            bad: npt.NDArray[np.bool_] = ~(np.abs(part) <= np.finfo(spec.dtype).max)
        else:
            bad = ~np.isfinite(part)
        return bad | (part < 0) | (part > 1) if spec.unit else bad
    if spec.classes is None:
        return None
    outside: npt.NDArray[np.bool_] = (part < 0) | (part >= spec.classes)
    return outside


def _value_message(place: str, value: Any, spec: Spec) -> str:
    if spec.classes is not None:
        hint = "; labels start at 0" if value == spec.classes else ""
        return (
            f"label out of range: {place} is {value}, the model has {spec.classes} classes "
            f"(0..{spec.classes - 1}){hint}: correct the labels, or convert a model with more classes"
        )
    if not np.isfinite(value):
        return f"{place} is {value}; remove or replace such samples: numbers must be finite"
    if spec.unit:
        return f"{place} is {value}, targets of this loss are within 0..1; rescale them"
    return f"{place} is {value}, too large for {spec.dtype}; rescale the data"


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
