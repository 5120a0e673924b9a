"""Data as the command line names it: a built-in set by name, else files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fourbit_onnx.data import digits, files, glyphs, speech, text
from fourbit_onnx.data.checks import Specs
from fourbit_onnx.data.dataset import Dataset
from fourbit_onnx.errors import DataError, as_wrong_use, meant

Array = NDArray[Any]

BUILT_IN: Mapping[str, Callable[[], Dataset]] = {
    "digits": digits.load,
    "glyphs": glyphs.load,
    "text": text.load,
    "speech": speech.load,
}


def find(
    source: str,
    names: Sequence[str],
    *,
    keys: Mapping[str, str] | None = None,
    split: str = "train",
    specs: Specs | None = None,
) -> dict[str, Array]:
    """The arrays of ``source`` under the names that the model has for them.

    Args:
        source: A name of ``BUILT_IN`` (``./digits`` is a file of that name), or what `files.open_data` reads.
        names: The model's inputs, then its targets.
        keys: Where a name is to be found in the file, for those that are called otherwise there.
        split: ``train`` or ``test``, for data that has both parts.
        specs: What the model wants of each name; needed for text, whose samples are as long as the model's.

    Raises:
        DataError: There is no such data, it is damaged, or its names are not those of the model.
    """
    if source in BUILT_IN:
        for name, key in (keys or {}).items():
            if name != key:
                raise DataError(f"{source!r} is built in, so nothing is at --key {name}={key}; leave it out")
        return _renamed(BUILT_IN[source](), names, split)
    require(source)
    wanted = {name: name for name in names} | dict(keys) if keys else None
    if unknown := sorted(set(keys or ()) - set(names)):
        raise DataError(f"the model has no input {unknown[0]!r}; it wants {_list(names)}")
    arrays = files.open_data(Path(source), names, keys=wanted, split=split, specs=specs)
    if missing := [name for name in names if name not in arrays]:
        other = next((name for name in arrays if name not in names), None)
        if other is None:
            raise DataError(
                f"{source} has only {_list(arrays)}, the model wants {_list(names)}: give an .npz file or a "
                f"folder of .npy files that has {missing[0]!r}, too"
            )
        raise DataError(
            f"{source} has no {missing[0]!r}; it has {_list(arrays)}, the model wants {_list(names)}: say "
            f"which is which, such as --key {missing[0]}={other} (keys={{{missing[0]!r}: {other!r}}})"
        )
    return arrays


def require(source: str) -> None:
    """Refuse what is neither built-in nor there.

    Raises:
        DataError: It is neither.
    """
    if source not in BUILT_IN and not Path(source).exists():
        with as_wrong_use():
            raise DataError(
                f"no data at {source}{meant(source, BUILT_IN)}; give {files.KNOWN}; or built-in data: "
                f"{', '.join(BUILT_IN)}"
            )


def check_together(source: str, evaluation: str) -> None:
    """Refuse training and test data that would number classes or characters differently.

    Raises:
        DataError: They would.
    """
    if source not in BUILT_IN and evaluation not in BUILT_IN:
        files.check_together(Path(source), Path(evaluation))


def has_parts(source: str) -> bool:
    """Whether ``source`` has a part for training and another for the test."""
    return source in BUILT_IN or files.has_parts(Path(source))


def _renamed(data: Dataset, names: Sequence[str], split: str) -> dict[str, Array]:
    if len(names) != len(data.names):
        raise DataError(
            f"{data.name!r} has {_list(data.names)}, the model wants {_list(names)}; give a file with these"
        )
    part = data.train if split == "train" else data.test
    return dict(zip(names, part.values(), strict=True))


def _list(names: Sequence[str] | Mapping[str, Array]) -> str:
    return ", ".join(repr(name) for name in names)
