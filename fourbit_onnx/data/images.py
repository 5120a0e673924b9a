"""Image folders: a folder a class, ``CLASS/*.png``, or ``train/CLASS/*.png`` and ``test/CLASS/*.png``.

Pillow, the optional extra ``images``, reads the files.
"""

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data import paths
from fourbit_onnx.errors import DataError, not_installed

Array = NDArray[Any]

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".webp": "WEBP",
}
SPLITS = ("train", "test")
LARGEST = 1 << 24  # pixels of one image: 4096 x 4096

# Pillow's modes that are read, and their channels: palettes become colours, black and white becomes grey.
CHANNELS = {"1": 1, "L": 1, "RGB": 3, "P": 3}

# What Pillow raises for damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error, zlib.error)


def is_layout(folder: Path) -> bool:
    """Whether a folder holds images, in folders or beside them."""
    return any(
        path.suffix.lower() in FORMATS
        for pattern in ("*", "*/*", "train/*/*", "test/*/*")
        for path in folder.glob(pattern)
    )


def read_folder(
    folder: Path,
    split: str = "train",
    names: Sequence[str] = ("image", "labels"),
    *,
    limit: int = paths.LIMIT,
) -> dict[str, Array]:
    """Images (N, C, H, W) float32 in [0, 1] and labels (N,) int64 of a folder of classes.

    Label 0 is the first class by name, and so on; the samples come by class and then by name. Of a folder
    with ``train`` and ``test``, ``split`` is read, and the classes are those of ``train``; without them, all
    of ``folder`` is read, whatever the split. C is 1 if all images are grey, else 3 (red, green, blue). All
    have one size. Rotation marks of cameras are not applied. Hidden files are passed over.

    Args:
        folder: Where the classes, or ``train`` and ``test``, are.
        split: ``train`` or ``test``.
        names: What to call images and labels.
        limit: Bytes that the images may take in memory.

    Raises:
        DataError: Pillow is not installed; a file is no image, damaged, too large, of another size than the
            others, transparent, deeper than 8 bits, or a link out of the folder; a class has no image.
    """
    image = _pillow()
    root, groups = _classes(folder, split)
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(groups):
        if (root / name).is_dir():
            files += [(path, label) for path in _files(root / name, folder)]
    if not files:
        raise DataError(f"{root} has no image; put the images of each class in a folder of its name")
    first, size, channels = files[0][0], (0, 0), 1
    for path, _ in files:  # heads only: nothing is decoded before all is known to fit
        found, mode = _head(image, path)
        size = size if any(size) else found
        if found != size:
            one = f"{size[0]}x{size[1]}"
            raise DataError(
                f"images differ in size: {first} is {one}, {path} is {found[0]}x{found[1]}; resize them, "
                f"such as with ImageMagick: mogrify -resize {one}! FILES"
            )
        channels = max(channels, CHANNELS[mode])
    shape = (len(files), channels, size[1], size[0])
    paths.check_size(
        4 * int(np.prod(shape, dtype=object)), limit, str(root), "resize the images to fewer pixels"
    )
    pixels = np.empty(shape, np.float32)
    for row, (path, _) in enumerate(files):
        np.divide(_decode(image, path, channels, size), np.float32(255), out=pixels[row])
    return {names[0]: pixels, names[1]: np.array([label for _, label in files], np.int64)}


def classes(folder: Path, split: str = "train") -> list[str]:
    """The names of labels 0, 1, ...

    Raises:
        DataError: The folder is not laid out so.
    """
    return _classes(folder, split)[1]


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(not_installed("Pillow, which reads images,", "images")) from error
    return Image


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, by name; hidden files and those of file managers aside."""
    try:
        found = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}; check its permissions") from error
    return [path for path in found if path.name[0] != "." and path.name not in ("Thumbs.db", "desktop.ini")]


def _classes(folder: Path, split: str) -> tuple[Path, list[str]]:
    """Where the classes of a split are, and the names of all classes."""
    parts = {path.name: path for path in _entries(folder) if path.name in SPLITS and path.is_dir()}
    if not parts:
        return folder, _folders(folder, folder)
    if split not in parts:
        raise DataError(f"{folder} has {next(iter(parts))} but no {split}; put the images of {split} there")
    known = _folders(parts.get("train", parts[split]), folder)
    if extra := [name for name in _folders(parts[split], folder) if name not in known]:
        raise DataError(f"{parts[split]} has a class {extra[0]!r} that {parts['train']} has not; rename one")
    return parts[split], known


def _folders(root: Path, folder: Path) -> list[str]:
    for path in _entries(root):
        _inside(path, folder)
        if not path.is_dir():
            raise DataError(
                f"{path} is beside the folders of the classes; move it into the folder of its class, or away"
            )
    return [path.name for path in _entries(root)]


def _files(group: Path, folder: Path) -> list[Path]:
    found = _entries(group)
    for path in found:
        _inside(path, folder)
        if path.suffix.lower() not in FORMATS or not path.is_file():
            raise DataError(
                f"{path} is no image of a known kind ({', '.join(FORMATS)}); convert it or move it away"
            )
    return found


def _inside(path: Path, folder: Path) -> None:
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{path} is a link out of {folder}, which is not followed; put a copy in its place")


def _head(image: Any, path: Path) -> tuple[tuple[int, int], str]:
    """Width and height, and Pillow's mode, from the beginning of a file."""
    with paths.opened(path) as file, _open(image, file, path) as opened:
        size, mode = opened.size, opened.mode
        if size[0] * size[1] > LARGEST:
            raise DataError(f"{path} has {size[0]}x{size[1]} pixels, more than {LARGEST:,}; resize it")
        if mode.endswith("A") or "transparency" in opened.info:
            raise DataError(f"{path} has transparent pixels; save it without an alpha channel")
        if mode not in CHANNELS:
            raise DataError(f"{path} has pixels of mode {mode}; save it as grey or RGB with 8 bits a channel")
        return size, mode


def _decode(image: Any, path: Path, channels: int, size: tuple[int, int]) -> Array:
    """The pixels of a file, (channels, height, width) uint8."""
    with paths.opened(path) as file, _open(image, file, path) as opened:
        if opened.size != size:
            raise DataError(f"{path} changed while it was read; try again when nothing writes to it")
        try:
            pixels = np.asarray(opened.convert("L" if channels == 1 else "RGB"))
        except DAMAGED as error:
            raise DataError(f"{path} is damaged ({_first_line(error)}); replace it") from error
    return pixels.reshape(size[1], size[0], channels).transpose(2, 0, 1)


def _open(image: Any, file: Any, path: Path) -> Any:
    """Pillow's image, whose pixels are not read yet; only by the reader that the file's name stands for."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images: the size is checked here
            return image.open(file, formats=(FORMATS[path.suffix.lower()],))
    except image.DecompressionBombError as error:
        raise DataError(f"{path} has more than {LARGEST:,} pixels; resize it") from error
    except DAMAGED as error:
        raise DataError(f"{path} is no readable {path.suffix[1:].upper()} file; replace it") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
