import hashlib

import numpy as np
import pytest

from fourbit_onnx.data import named, text
from fourbit_onnx.errors import DataError


@pytest.fixture(scope="module")
def data():
    return text.load()


def written(data, part):
    """The text of a part, its samples joined."""
    return "".join(np.array(data.classes)[getattr(data, part)["tokens"].ravel()])


def test_types_and_shapes(data):
    assert data.names == ("tokens", "labels")
    assert len(set(data.classes)) == len(data.classes) == 85
    assert data.classes[-1] == "\ufffd"
    for part, count in ((data.train, 4066), (data.test, 502)):
        for array in part.values():
            assert (array.shape, array.dtype) == ((count, 64), np.int64)
            assert 0 <= array.min() <= array.max() == len(data.classes) - 1


def test_the_same_bytes_on_every_machine(data):
    found = hashlib.sha256()
    for part in (data.train, data.test):
        for array in part.values():
            found.update(array.astype("<i8").tobytes())
    assert found.hexdigest() == "53124748d764451ed68eb2dc062a665f83ba9508af3720c434b2c7a64c05ceeb"


def test_a_label_is_the_character_that_follows(data):
    for part in (data.train, data.test):
        tokens, labels = part["tokens"].ravel(), part["labels"].ravel()
        np.testing.assert_array_equal(labels[:-1], tokens[1:])


def test_it_is_english_about_operators(data):
    train, test = written(data, "train"), written(data, "test")
    assert "\nSoftmax\nThe operator computes the normalized exponential values" in train
    assert "\nRoiAlign\nRegion of Interest (RoI) align operation" in test
    for whole in (train, test):
        assert whole.count("\ufffd") < 0.003 * len(whole)
        assert 0.01 < whole.count(" the ") * 5 / len(whole) < 0.2
        assert "  " not in whole


def test_no_operator_is_in_both_parts(data):
    headings = [
        {block.split("\n", 1)[0] for block in written(data, part).split("\n\n")[1:]}
        for part in ("train", "test")
    ]
    assert min(map(len, headings)) > 15
    assert not headings[0] & headings[1]


def test_what_the_test_asks_for_is_new(data):
    """Runs of 40 characters of the test that training has: at most one in ten."""
    train, test = written(data, "train"), written(data, "test")
    seen = {train[start : start + 40] for start in range(len(train) - 39)}
    repeated = sum(test[start : start + 40] in seen for start in range(len(test) - 39))
    assert repeated < 0.1 * len(test)


def test_seed_moves_where_training_begins(data):
    moved = text.load(64 * 500 + 3)
    first = data.train["tokens"].ravel()
    np.testing.assert_array_equal(moved.train["tokens"].ravel()[:1000], first[3:1003])
    np.testing.assert_array_equal(moved.test["tokens"], data.test["tokens"])


@pytest.mark.parametrize(("length", "count"), [(1, 9), (3, 3), (4, 2), (9, 1)])
def test_windows(length, count):
    got = text.windows(np.arange(10, dtype=np.uint8), length)
    assert got["tokens"].shape == (count, length)
    np.testing.assert_array_equal(got["tokens"].ravel(), np.arange(count * length))
    np.testing.assert_array_equal(got["labels"], got["tokens"] + 1)


@pytest.mark.parametrize("length", [0, 10**6])
def test_refuses_an_impossible_length(length):
    with pytest.raises(DataError, match=rf"^the text has samples of 1 to \d+ characters, got {length}$"):
        text.load(length=length)


def test_is_built_in():
    arrays = named.find("text", ("input_ids", "y"), split="test")
    assert list(arrays) == ["input_ids", "y"]
