"""CIFAR-10 and CIFAR-100 in their binary form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import paths
from fourbit_onnx.errors import DataError

Array = NDArray[Any]
PIXELS = 3 * 32 * 32

# The files of each split, bytes of labels before an image (the last one counts), classes.
LAYOUTS = (
    ({"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}, 1, 10),
    ({"train": ("train.bin",), "test": ("test.bin",)}, 2, 100),
)


def read(path: Path, label_bytes: int = 1, classes: int = 10) -> tuple[Array, Array]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) uint8 of one file.

    A record is ``label_bytes`` labels (CIFAR-100: coarse, fine) and the red, green and blue plane.

    Raises:
        DataError: The file is missing, empty or cut short, or a label is no class.
    """
    with paths.opened(path) as file:
        paths.check_size(file.seek(0, 2), paths.LIMIT, str(path), "split the file")
        file.seek(0)
        data = np.frombuffer(file.read(), np.uint8)
    size = label_bytes + PIXELS
    if len(data) == 0 or len(data) % size:
        raise DataError(
            f"{path} is cut short: {len(data)} bytes are no multiple of {size}; download it again"
        )
    records = data.reshape(-1, size)
    labels = records[:, label_bytes - 1]
    if (labels >= classes).any():
        at = int(np.argmax(labels >= classes))
        raise DataError(
            f"{path} has label {labels[at]} in record {at}, 0..{classes - 1} expected; download it again"
        )
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def read_folder(
    folder: Path, split: str = "train", names: Sequence[str] = ("image", "labels")
) -> dict[str, Array]:
    """Images (N, 3, 32, 32) float32 in [0, 1] and labels (N,) int64 of the folder's ``.bin`` files.

    CIFAR-100 gives the 100 fine labels. All the files of the split have to be there.

    Raises:
        DataError: A file is missing or refused.
    """
    for layout, label_bytes, classes in LAYOUTS:
        files = layout[split]
        if any((folder / name).exists() for name in files):
            parts = [read(folder / name, label_bytes, classes) for name in files]
            pixels = [np.divide(images, np.float32(255), dtype=np.float32) for images, _ in parts]
            labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
            return {names[0]: np.concatenate(pixels), names[1]: labels}
    wanted = " or ".join(layout[split][0] for layout, _, _ in LAYOUTS)
    raise DataError(f"{folder} has no {wanted}; put the binary version of CIFAR there")
