"""Users' data from files: the suffix decides the reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fourbit_onnx.data import cifar, idx, images, npy, npz, table, text_files
from fourbit_onnx.data.checks import Specs
from fourbit_onnx.errors import DataError

Array = NDArray[Any]
KNOWN = (
    ".npz, .npy, .csv, .txt, or a folder of .npy files, of MNIST's IDX files, of CIFAR's .bin files, of "
    "folders of images, or of train.txt and test.txt"
)


def open_data(
    path: Path | str,
    names: Sequence[str] = ("image", "labels"),
    *,
    keys: Mapping[str, str] | None = None,
    split: str = "train",
    specs: Specs | None = None,
) -> dict[str, Array]:
    """The arrays of a file or folder, by name, equally long.

    ============  ==============================================  =====================================
    path          arrays                                          in memory
    ============  ==============================================  =====================================
    ``x.npz``     by their keys, or those of ``keys``             read
    folder        of ``.npy``: by the files' names, or ``keys``   mapped, read when used
    ``x.npy``     one, ``names[0]``                               mapped
    ``x.csv``     columns ``names[0]``, label ``names[1]``        read
    folder        of IDX or CIFAR: as ``names``; ``split``        read
    folder        of classes of images: ``names``; ``split``      read
    ``x.txt``     tokens ``names[0]``, labels ``names[1]``        read
    folder        of ``train.txt``, ``test.txt``: the same        read
    ============  ==============================================  =====================================

    ``names`` are the model's input and its label input, for formats without names of their own; ``keys`` says
    where each name is to be found, ``{"image": "x_train"}`` (in CSV, the label's column). ``specs`` are what
    the model wants of the names: the length of samples of text, and how many characters there may be.

    Raises:
        DataError: There is no such data, it is damaged, of an unknown kind, or its arrays differ in length.
    """
    path = Path(path)
    if split not in ("train", "test"):
        raise DataError(f"no split {split!r}; there are: train, test")
    if not path.exists():
        raise DataError(f"no data at {path}; give {KNOWN}")
    arrays = _read(path, names, keys, split, specs)
    for name, array in arrays.items():
        if array.ndim == 0:
            raise DataError(f"{name!r} in {path} is a single number; give an array with a sample a row")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"the arrays of {path} have different numbers of samples: {listed}; give one label a sample"
        )
    return arrays


# Kinds of data whose arrays have no names to choose by.
_NAMELESS = ("idx", "cifar", "images", "text")


def has_parts(path: Path) -> bool:
    """Whether the data at ``path`` has a part for training and another for the test."""
    kind = _kind(path)
    if kind == "images" or (kind == "text" and path.is_dir()):
        return all((path / part).is_dir() or (path / f"{part}.txt").exists() for part in ("train", "test"))
    return kind in ("idx", "cifar", "text")


def check_together(train: Path, test: Path) -> None:
    """Refuse two sources that would give the same number to different classes or characters.

    Raises:
        DataError: They are different texts, or folders of other classes of images.
    """
    kinds = {_kind(train), _kind(test)}
    if train.resolve() == test.resolve():
        return
    if kinds == {"text"}:
        raise DataError(
            f"{train} and {test} would each number their own characters; put them into one folder as "
            "train.txt and test.txt, and give the folder for both"
        )
    if kinds == {"images"}:
        known, found = images.classes(train, "train"), images.classes(test, "test")
        if other := sorted(set(known) ^ set(found)):
            raise DataError(
                f"{train} and {test} have not the same classes: {other[0]!r} is in one of them only; put "
                "both into one folder as train and test, and give the folder for both"
            )


def _kind(path: Path) -> str:
    """What the reader is called by; empty if there is none."""
    if not path.is_dir():
        return {".npz": "npz", ".npy": "npy", ".csv": "table", ".txt": "text"}.get(path.suffix.lower(), "")
    for pattern, kind in (("*.npy", "npy"), ("*-ubyte*", "idx"), ("*.bin", "cifar")):
        if any(path.glob(pattern)):
            return kind
    if text_files.is_layout(path):
        return "text"
    return "images" if images.is_layout(path) else ""


def _read(
    path: Path, names: Sequence[str], keys: Mapping[str, str] | None, split: str, specs: Specs | None
) -> dict[str, Array]:
    kind = _kind(path)
    if (kind in _NAMELESS or (kind == "npy" and not path.is_dir())) and keys:
        renamed = next((f"{name}={key}" for name, key in keys.items() if name != key), "")
        if renamed:
            raise DataError(f"{path} has no arrays by name, so nothing is at --key {renamed}; leave it out")
    match kind:
        case "npz":
            return npz.read(path, keys)
        case "npy":
            return npy.read_folder(path, keys) if path.is_dir() else {names[0]: npy.read(path)}
        case "table":
            pair = _pair(names, path)
            return table.read(path, pair, label=(keys or {}).get(pair[1]))
        case "idx":
            return idx.read_folder(path, split, _pair(names, path))
        case "cifar":
            return cifar.read_folder(path, split, _pair(names, path))
        case "images":
            return images.read_folder(path, split, _pair(names, path))
        case "text":
            return _text(path, names, split, specs)
    if path.is_dir():
        raise DataError(f"the folder {path} holds no data; give {KNOWN}")
    if "-ubyte" in path.name or path.suffix.lower() in (".bin", *images.FORMATS):
        raise DataError(f"{path} is one file of several; give its folder, {path.parent}")
    raise DataError(f"{path} is of an unknown kind; give {KNOWN}")


def _text(path: Path, names: Sequence[str], split: str, specs: Specs | None) -> dict[str, Array]:
    """As long and with as many characters as the model takes, where the graph says so."""
    pair = _pair(names, path)
    options: dict[str, int] = {}
    if specs is not None:
        shape, classes = specs[pair[0]].shape, specs[pair[1]].classes
        if len(shape) == 2 and isinstance(shape[1], int):
            options["length"] = shape[1]
        if classes is not None:
            options["classes"] = classes
    return text_files.read(path, split, pair, **options)


def _pair(names: Sequence[str], path: Path) -> tuple[str, str]:
    """The input and the label: all that formats without names can hold."""
    if len(names) != 2:
        raise DataError(f"{path} has one input and one label, the model takes {', '.join(names)}: use .npz")
    return names[0], names[1]
