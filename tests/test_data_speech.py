import hashlib
from importlib import resources

import numpy as np
import pytest

from fourbit_onnx.data import named, speech
from fourbit_onnx.errors import DataError

SPEAKERS, WORDS, TIMES = 68, 25, 3


@pytest.fixture(scope="module")
def held():
    with np.load(str(resources.files("fourbit_onnx.data") / "speech.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def data():
    return speech.load()


def test_types_shapes_and_classes(data):
    assert data.names == ("features", "labels")
    assert data.classes[:3] == ("zero", "one", "two")
    assert len(set(data.classes)) == WORDS
    for part, speakers in ((data.train, SPEAKERS - 14), (data.test, 14)):
        assert part["features"].shape == (speakers * WORDS * TIMES, 40, 40)
        assert part["features"].dtype == np.float32
        assert part["labels"].dtype == np.int64
        assert np.bincount(part["labels"]).tolist() == [speakers * TIMES] * WORDS


def test_the_same_bytes_on_every_machine(data):
    found = hashlib.sha256()
    for part in (data.train, data.test):
        for array in part.values():
            found.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    assert found.hexdigest() == "10417b0cc4a0a34832cb3be0b826d9c9a03971faf66697e2dcb6cf3ddf45b128"


def test_normalised_over_training(data):
    flat = data.train["features"].reshape(-1, 40).astype(np.float64)
    # each of the values, below 8, and both constants are rounded once to float32: 3 * 8 * 2**-24
    np.testing.assert_allclose(flat.mean(0), 0, atol=1.5e-6)
    np.testing.assert_allclose(flat.var(0), 1, atol=2 * 8 * 1.5e-6)


def test_moments_of_little():
    codes = np.array([[[1, 0], [3, 0]], [[5, 4], [7, 4]]], np.uint8)
    mean, deviation = speech._moments(codes)
    assert mean.tolist() == [4, 2]
    assert deviation.tolist() == [np.float32(np.sqrt(5)), 2]


def test_speakers_of_the_test_are_not_trained_on(held):
    """Found again by their sounds: every row of the file is in one part, whole speakers together."""
    chosen = []
    left_out = {list(held["names"]).index(name) for name in speech.LEFT_OUT}
    for seed in (0, 1):
        rows = _rows(held, speech.load(seed).test)
        chosen.append(set(held["speakers"][rows]))
        assert len(chosen[-1]) == 14
        assert rows.tolist() == np.flatnonzero(np.isin(held["speakers"], list(chosen[-1]))).tolist()
        assert not chosen[-1] & left_out
    assert chosen[0] != chosen[1]
    whole = set(held["speakers"][_rows(held, speech.load().train)]) | chosen[0]
    assert whole == set(range(len(held["names"]))) - left_out


def _rows(held, part):
    """Rows of the file that are the samples of a part: equal after ranking the values of a band."""
    band = {}
    for row, codes in enumerate(held["features"]):
        band.setdefault(_shape(codes), row)
    return np.array([band[_shape(features)] for features in part["features"]])


def _shape(array):
    """What a rising map of the values of each band leaves: which of its frames are equal, and their order."""
    return np.concatenate([np.unique(array[:, k], return_inverse=True)[1] for k in range(40)]).tobytes()


def test_no_sound_is_twice_in_the_file(held):
    assert len({codes.tobytes() for codes in held["features"]}) == len(held["features"])
    assert held["features"].max() == 19
    assert (held["features"].max((1, 2)) == 19).all()  # the loudest of each sample is the reference


@pytest.mark.parametrize("test", [0, SPEAKERS])
def test_refuses_an_impossible_split(test):
    with pytest.raises(DataError, match=rf"^the speech has 68 speakers: .*, got {test}$"):
        speech.load(test=test)


def test_is_built_in():
    arrays = named.find("speech", ("x", "y"), split="test")
    assert arrays["x"].shape[1:] == (40, 40)
