"""Text files: UTF-8, character by character, as tokens and the characters that follow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import paths, text
from fourbit_onnx.errors import DataError

Array = NDArray[Any]

TEST = 10  # one character in ten of a single file is for the test
PARTS = {"train": "train.txt", "test": "test.txt"}


def read(
    path: Path,
    split: str = "train",
    names: Sequence[str] = ("tokens", "labels"),
    *,
    length: int = 64,
    classes: int | None = None,
    limit: int = paths.LIMIT,
) -> dict[str, Array]:
    """Tokens (N, length) int64 and labels (N, length) int64, the next character of each.

    Of a folder, ``train.txt`` or ``test.txt`` is read; of one file, the first nine tenths are for training
    and the last tenth for the test. The vocabulary is the distinct characters of the whole file, or of both
    files together, in the order of their code points: the first is token 0, and so on; both splits share
    it. A byte order mark is left out, and all line ends are read as a line feed. Samples follow each other
    without overlap; what does not fill one is left out.

    Args:
        path: A file, or a folder with ``train.txt`` and ``test.txt``.
        split: ``train`` or ``test``.
        names: What to call tokens and labels.
        length: Characters of a sample: the model's.
        classes: Characters that the model can tell apart; None: any number.
        limit: Bytes that the text and its samples may take in memory.

    Raises:
        DataError: A file is missing, too large or not UTF-8, or has fewer than ``length`` + 1 characters in
            the split, or more different ones than ``classes``.
    """
    if path.is_dir():
        parts = {part: path / name for part, name in PARTS.items() if (path / name).exists()}
        if split not in parts:
            raise DataError(f"{path} has no {PARTS[split]}; put the text for it there")
        texts = {part: _text(file, limit) for part, file in parts.items()}
    else:
        whole = _text(path, limit)
        cut = len(whole) - len(whole) // TEST
        texts = {"train": whole[:cut], "test": whole[cut:]}
    vocabulary = np.unique(np.concatenate(list(texts.values())))
    if classes is not None and len(vocabulary) > classes:
        raise DataError(
            f"{path} has {len(vocabulary)} different characters, the model has {classes} classes; convert "
            "a model with more, or replace rare characters in the text"
        )
    chosen = texts[split]
    if len(chosen) <= length:
        raise DataError(
            f"{path} has {len(chosen)} characters for {split}, a sample takes {length + 1}; give a "
            "longer text, or a folder with train.txt and test.txt"
        )
    samples = text.windows(np.searchsorted(vocabulary, chosen), length)
    return dict(zip(names, samples.values(), strict=True))


def is_layout(folder: Path) -> bool:
    """Whether a folder holds ``train.txt`` or ``test.txt``."""
    return any((folder / name).is_file() for name in PARTS.values())


def _text(path: Path, limit: int) -> NDArray[np.uint32]:
    """The code points of a file's characters."""
    with paths.opened(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        # A byte becomes a code point, its rank, a token and a label on the way: 4 + 3 * 8 bytes, and a copy.
        paths.check_size(40 * size, limit, str(path), "split the text into smaller files")
        raw = file.read()
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start}: {error.reason}); save it as UTF-8"
        ) from error
    decoded = decoded.replace("\r\n", "\n").replace("\r", "\n")
    return np.frombuffer(decoded.encode("utf-32-le"), "<u4").astype(np.uint32)
