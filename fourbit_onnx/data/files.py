"""Users' data from files: the suffix decides the reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fourbit_onnx.data import cifar, idx, npy, npz, table
from fourbit_onnx.errors import DataError

Array = NDArray[Any]
KNOWN = ".npz, .npy, .csv, or a folder of .npy files, of MNIST's IDX files or of CIFAR's .bin files"


def open_data(
    path: Path | str,
    names: Sequence[str] = ("image", "labels"),
    *,
    keys: Mapping[str, str] | None = None,
    split: str = "train",
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
    ============  ==============================================  =====================================

    ``names`` are the model's input and its label input, for formats without names of their own; ``keys`` says
    where each name is to be found, ``{"image": "x_train"}`` (in CSV, the label's column).

    Raises:
        DataError: There is no such data, it is damaged, of an unknown kind, or its arrays differ in length.
    """
    path = Path(path)
    if split not in ("train", "test"):
        raise DataError(f"no split {split!r}; there are: train, test")
    if not path.exists():
        raise DataError(f"no data at {path}; give {KNOWN}")
    arrays = _folder(path, names, keys, split) if path.is_dir() else _file(path, names, keys)
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


def _file(path: Path, names: Sequence[str], keys: Mapping[str, str] | None) -> dict[str, Array]:
    match path.suffix.lower():
        case ".npz":
            return npz.read(path, keys)
        case ".npy":
            return {names[0]: npy.read(path)}
        case ".csv":
            pair = _pair(names, path)
            return table.read(path, pair, label=(keys or {}).get(pair[1]))
    if "-ubyte" in path.name or path.suffix == ".bin":
        raise DataError(f"{path} is one file of several; give its folder, {path.parent}")
    raise DataError(f"{path} is of an unknown kind; give {KNOWN}")


def _folder(
    folder: Path, names: Sequence[str], keys: Mapping[str, str] | None, split: str
) -> dict[str, Array]:
    if any(folder.glob("*.npy")):
        return npy.read_folder(folder, keys)
    if any(folder.glob("*-ubyte*")):
        return idx.read_folder(folder, split, _pair(names, folder))
    if any(folder.glob("*.bin")):
        return cifar.read_folder(folder, split, _pair(names, folder))
    raise DataError(f"the folder {folder} holds no data; give {KNOWN}")


def _pair(names: Sequence[str], path: Path) -> tuple[str, str]:
    """The input and the label: all that formats without names can hold."""
    if len(names) != 2:
        raise DataError(f"{path} has one input and one label, the model takes {', '.join(names)}: use .npz")
    return names[0], names[1]
