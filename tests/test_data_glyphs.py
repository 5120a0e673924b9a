import hashlib
from importlib import resources

import numpy as np
import pytest

from fourbit_onnx.data import glyphs, named
from fourbit_onnx.data.draws import Draws


@pytest.fixture(scope="module")
def data():
    return glyphs.load()


def test_types_ranges_and_classes(data):
    assert data.names == ("image", "labels")
    assert len(set(data.classes)) == 46
    for part, count in ((data.train, 8000), (data.test, 2000)):
        image = part["image"]
        assert (image.shape, image.dtype) == ((count, 1, 24, 24), np.float32)
        levels = image * np.float32(255)
        np.testing.assert_array_equal(image, np.rint(levels) / np.float32(255))
        assert 0 <= image.min() < 0.05 < 0.95 < image.max() <= 1
        assert part["labels"].dtype == np.int64
        counts = np.bincount(part["labels"], minlength=46)
        assert len(counts) == 46
        assert counts.max() - counts.min() <= 1


def test_the_same_bytes_on_every_machine(data):
    found = hashlib.sha256()
    for part in (data.train, data.test):
        for array in part.values():
            found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert found.hexdigest() == "fbfcf83853683062cf7303438c3c05e2293da74eb1037f358be86702247fb633"


def test_seeds_and_sizes(data):
    small = glyphs.load(train=100, test=60)
    again = glyphs.load(train=100, test=60)
    other = glyphs.load(1, train=100, test=60)
    np.testing.assert_array_equal(small.train["image"], again.train["image"])
    assert (small.train["image"] != other.train["image"]).any()
    assert (small.train["labels"] != other.train["labels"]).any()
    assert not np.array_equal(small.train["image"][:60], small.test["image"])
    samples = {image.tobytes() for part in (data.train, data.test) for image in part["image"]}
    assert len(samples) == 10_000


def test_faces_of_the_test_are_not_trained_on():
    with np.load(str(resources.files("fourbit_onnx.data") / "glyphs.npz")) as held:
        bitmaps, faces = held["bitmaps"], list(held["faces"])
    out = [faces.index(face) for face in glyphs.TEST_FACES]
    rest = [place for place in range(len(faces)) if place not in out]
    assert (len(out), len(rest)) == (5, 16)
    train = {bitmap.tobytes() for bitmap in bitmaps[rest].reshape(-1, 32, 32)}
    assert not any(bitmap.tobytes() in train for bitmap in bitmaps[out].reshape(-1, 32, 32))


def test_bitmaps_are_centred_and_18_pixels_high():
    with np.load(str(resources.files("fourbit_onnx.data") / "glyphs.npz")) as held:
        bitmaps, characters = held["bitmaps"], "".join(held["characters"])
    rows = bitmaps.max(-1) > 0
    top, bottom = rows.argmax(-1), 31 - rows[..., ::-1].argmax(-1)
    assert np.abs(top + bottom - 31).max() <= 1
    heights = (bottom - top + 1)[:, characters.index("H")]
    assert heights.min() >= 18
    assert heights.max() <= 19  # a grey row, where whole sizes do not give 18 exactly


def test_a_glyph_that_is_not_moved_is_its_middle():
    """Scale 1, no turn, slant or shift: pixel centres fall on pixel centres, in the middle 24 of 34."""
    pool = np.random.default_rng(0).random((3, 34, 34), np.float32)
    grid = np.arange(24, dtype=np.float32) + 5
    row, column = np.broadcast_arrays(grid[:, None], grid[None, :])
    which = np.array([2, 0])
    got = glyphs._bilinear(pool, which, np.stack([row, row]), np.stack([column, column]))
    np.testing.assert_array_equal(got, pool[which, 5:29, 5:29])
    half = glyphs._bilinear(pool, which, np.stack([row, row]) + np.float32(0.5), np.stack([column, column]))
    np.testing.assert_array_equal(half, (pool[which, 5:29, 5:29] + pool[which, 6:30, 5:29]) / 2)


def test_directions_are_unit_vectors_all_round():
    found = glyphs._direction(Draws(3).between(-1, 1, 1000), Draws(4))
    # t * t, 1 - t * t, 1 + t * t, both quotients, and here squares and their sum: eight times 2**-53 at most
    np.testing.assert_allclose((found**2).sum(0), 1, rtol=2**-50)
    assert {tuple(quarter) for quarter in np.sign(found).T} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_is_built_in():
    arrays = named.find("glyphs", ("x", "y"), split="test")
    assert arrays["x"].shape == (2000, 1, 24, 24)
