"""Glyphs: 46 characters in the faces of matplotlib's fonts, turned, in clutter and noise.

``glyphs.npz``, which tools/make_glyphs.py makes, holds bitmaps of 46 characters in 21 faces of DejaVu, STIX
and Computer Modern. Every sample is drawn from one of them: the bitmap is turned, slanted, scaled and
moved, pieces of other glyphs and a line are laid around and over it, brightness and contrast vary, noise is
added, and the result is rounded to 256 grey levels, as a camera's.

The test draws from five faces that training never sees, one from each group of faces, and so asks for
characters and not for bitmaps. FP16 makes mistakes here too (the digits leave it almost none), so that a
recipe can be seen to be worse.
"""

from importlib import resources

import numpy as np
from numpy.typing import NDArray

from fourbit_onnx.data.dataset import Array, Dataset
from fourbit_onnx.data.draws import Draws

SIZE = 24
TEST_FACES = (
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneralItalic",
    "cmb10",
)
CLUTTER, LINES = 2, 1  # pieces of other glyphs and lines in a sample
NOISE = 0.08  # the largest standard deviation
CHUNK = 1000  # samples drawn in one go: bounds the memory

Float = NDArray[np.float32]


def load(seed: int = 0, train: int = 8000, test: int = 2000) -> Dataset:
    """Glyphs: ``image`` (N, 1, 24, 24) float32, multiples of 1/255 in [0, 1]; ``labels`` (N,) int64.

    The classes are equally frequent (within one) and in random order. Both parts depend on ``seed`` and their
    sizes alone, to the last bit: raw random integers and IEEE operations in a fixed order, no transcendental
    function. Another seed draws other samples, of the same faces in each part.
    """
    with np.load(str(resources.files("fourbit_onnx.data") / "glyphs.npz"), allow_pickle=False) as held:
        bitmaps, faces, characters = held["bitmaps"], held["faces"], held["characters"]
    out = np.isin(faces, TEST_FACES)
    parts = [
        _part(bitmaps[rows], count, Draws(seed, place))
        for place, (rows, count) in enumerate(((~out, train), (out, test)))
    ]
    return Dataset("glyphs", parts[0], parts[1], tuple(str(character) for character in characters))


def _part(bitmaps: NDArray[np.uint8], count: int, draws: Draws) -> dict[str, Array]:
    faces, classes, side, _ = bitmaps.shape
    labels = draws.order(count) % classes
    pool = np.pad(bitmaps.reshape(-1, side, side), ((0, 0), (1, 1), (1, 1))).astype(np.float32)
    pool *= np.float32(1 / 255)
    images = np.empty((count, 1, SIZE, SIZE), np.float32)
    for start in range(0, count, CHUNK):
        chosen = labels[start : start + CHUNK]
        images[start : start + CHUNK, 0] = _draw(pool, chosen, faces, classes, draws)
    return {"image": images, "labels": labels}


def _draw(pool: Float, labels: NDArray[np.int64], faces: int, classes: int, draws: Draws) -> Float:
    """A sample of each label, (N, SIZE, SIZE): ink, then light."""
    n = len(labels)
    centre = draws.between(-1.5, 1.5, 2, n)
    ink = _glyph(pool, draws.below(faces, n) * classes + labels, centre, draws)
    for _ in range(CLUTTER):
        # A neighbour: in a direction of its own, so far away that it cannot cover the middle.
        away = draws.between(13, 17, n) * _direction(draws.between(-1, 1, n), draws)
        other = _glyph(pool, draws.below(len(pool), n), centre + away, draws)
        ink = np.maximum(ink, other)
    for _ in range(LINES):
        ink = np.maximum(ink, _line(draws, n))
    paper = draws.between(0, 0.4, n).astype(np.float32)
    contrast = draws.between(0.4, 0.6, n).astype(np.float32)
    image = paper[:, None, None] + contrast[:, None, None] * ink
    noise = draws.between(0, NOISE, n).astype(np.float32)
    image += noise[:, None, None] * draws.bell(n, SIZE, SIZE)
    return (np.rint(np.clip(image, 0, 1) * np.float32(255)) / np.float32(255)).astype(np.float32)


def _direction(t: NDArray[np.float64], draws: Draws) -> NDArray[np.float64]:
    """Unit vectors (2, N) in all directions, for t in [-1, 1): without sine and cosine.

    ((1 - t**2) / (1 + t**2), 2 t / (1 + t**2)) is the half circle of angles 2 atan t; a coin gives the other.
    """
    side = np.where(draws.below(2, len(t)) == 0, 1.0, -1.0)
    return side * np.stack(_turn(t))


def _turn(t: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and sine of the angle 2 atan t."""
    square = t * t
    return (1 - square) / (1 + square), 2 * t / (1 + square)


def _glyph(pool: Float, which: NDArray[np.int64], centre: NDArray[np.float64], draws: Draws) -> Float:
    """Bitmaps of the pool, (N, SIZE, SIZE), turned, slanted, scaled, at ``centre`` (2, N) from the middle."""
    n = len(which)
    cosine, sine = _turn(draws.between(-0.13, 0.13, n))  # up to 14.8 degrees either way
    scale = 1 / draws.between(0.75, 1.05, n)
    slant, narrow = draws.between(-0.2, 0.2, n), draws.between(0.9, 1.15, n)
    # From a pixel to where it comes from in the bitmap: [u, v] = slant and width of (scale * turn) [x, y].
    a, b = scale * cosine, scale * sine
    rows = [(a - slant * b) * narrow, (b + slant * a) * narrow, -b, a]
    ux, uy, vx, vy = (row.astype(np.float32)[:, None, None] for row in rows)
    grid = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
    dx, dy = centre.astype(np.float32)
    x, y = grid - dx[:, None, None], grid[:, None] - dy[:, None, None]
    middle = np.float32((pool.shape[1] - 1) / 2)
    return _bilinear(pool, which, vx * x + vy * y + middle, ux * x + uy * y + middle)


def _bilinear(pool: Float, which: NDArray[np.int64], row: Float, column: Float) -> Float:
    """The values of ``pool[which]`` at places between its pixels; its border, which is 0, reaches on."""
    side = pool.shape[1]
    last = np.float32(side - 1)
    row, column = np.clip(row, 0, last), np.clip(column, 0, last)
    i = np.minimum(row.astype(np.int32), side - 2)
    j = np.minimum(column.astype(np.int32), side - 2)
    y, x = row - i.astype(np.float32), column - j.astype(np.float32)
    flat = pool.reshape(-1)
    place = (which * (side * side)).astype(np.int32)[:, None, None] + i * np.int32(side) + j
    above = flat[place] * (1 - x) + flat[place + 1] * x
    below = flat[place + side] * (1 - x) + flat[place + side + 1] * x
    return np.asarray(above * (1 - y) + below * y)


def _line(draws: Draws, n: int) -> Float:
    """A line across each sample, (N, SIZE, SIZE), one to two pixels wide with soft edges."""
    across = _direction(draws.between(-1, 1, n), draws).astype(np.float32)
    offset = draws.between(-12, 12, n).astype(np.float32)
    width = draws.between(0.8, 1.3, n).astype(np.float32)
    strength = draws.between(0, 0.8, n).astype(np.float32)
    grid = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
    x, y = across[0][:, None, None] * grid, across[1][:, None, None] * grid[:, None]
    distance = np.abs(x + y - offset[:, None, None])
    return np.asarray(strength[:, None, None] * np.clip(width[:, None, None] - distance, 0, 1))
