"""Text: English, character by character: the documentation of ONNX's operators.

``text.npz``, which tools/make_text.py makes, holds the texts of onnx 1.23.2 (Copyright ONNX Project
Contributors, licence Apache-2.0) as character codes: the documentation of all versions of all operators
without blocks of code, repeated paragraphs left out. Whole operators are in the test or in training, and a
paragraph that largely repeats what training has is not in the test.
"""

from importlib import resources

import numpy as np

from fourbit_onnx.data.dataset import Array, Dataset
from fourbit_onnx.errors import DataError


def load(seed: int = 0, length: int = 64) -> Dataset:
    """Text: ``tokens`` (N, length) and ``labels`` (N, length) int64: the next character of each.

    Samples follow each other in the text without overlap; what does not fill one is left out. ``seed`` moves
    where the first one of training begins, by ``seed % length`` characters; the test is the same for all.
    The classes are the characters, the last of them U+FFFD for all rare ones.

    Raises:
        DataError: ``length`` leaves no sample in some part.
    """
    with np.load(str(resources.files("fourbit_onnx.data") / "text.npz"), allow_pickle=False) as held:
        characters, texts = held["characters"], [held["train"], held["test"]]
    if not 1 <= length < len(texts[1]):
        raise DataError(f"the text has samples of 1 to {len(texts[1]) - 1} characters, got {length}")
    train, test = windows(texts[0][seed % length :], length), windows(texts[1], length)
    return Dataset("text", train, test, tuple(str(character) for character in characters))


def windows(codes: Array, length: int) -> dict[str, Array]:
    """Codes of a text, (characters,), as samples of ``length`` codes; labels are the codes that follow."""
    count = (len(codes) - 1) // length
    used = codes[: count * length + 1].astype(np.int64)
    return {"tokens": used[:-1].reshape(count, length), "labels": used[1:].reshape(count, length)}
