import hashlib

import numpy as np
import pytest

from fourbit_onnx.data import digits
from fourbit_onnx.data.dataset import Dataset
from fourbit_onnx.errors import DataError


def test_the_data_is_the_published_one():
    data = digits.load()
    count = [len(part["labels"]) for part in (data.train, data.test)]
    assert count == [1437, 360]
    labels = np.concatenate([data.train["labels"], data.test["labels"]])
    # class sizes of scikit-learn's load_digits, and the sum of all its pixels
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert 16 * sum(part["image"].sum(dtype=np.float64) for part in (data.train, data.test)) == 561718


def test_types_and_range():
    data = digits.load()
    assert data.names == ("image", "labels")
    assert data.classes == tuple("0123456789")
    for part in (data.train, data.test):
        assert part["image"].dtype == np.float32
        assert part["image"].shape[1:] == (1, 8, 8)
        assert part["labels"].dtype == np.int64
        assert part["image"].min() == 0
        assert part["image"].max() == 1
        np.testing.assert_array_equal(part["image"] * 16, np.rint(part["image"] * 16))


@pytest.mark.parametrize("test", [10, 100, 360, 1787])
def test_stratified(test):
    data = digits.load(test=test)
    sizes = np.bincount(np.concatenate([data.train["labels"], data.test["labels"]]))
    found = np.bincount(data.test["labels"], minlength=10)
    assert found.sum() == test
    assert (np.abs(found - sizes * test / 1797) < 1).all()


def test_no_sample_twice_and_none_lost():
    def samples(seed):
        data = digits.load(seed)
        return [{image.tobytes() for image in part["image"]} for part in (data.train, data.test)]

    (train, test), (other_train, other_test) = samples(0), samples(1)
    assert not train & test  # the data set has no two equal images
    assert train | test == other_train | other_test
    assert len(train | test) == 1797
    assert test != other_test


def test_split_is_the_same_on_every_machine():
    assert (
        hashlib.sha256(digits.load().test["labels"].tobytes()).hexdigest()
        == "f9291f465e62b5bbf8efd70551de70618d1a516c68130ec8a85b28eb497c6b4b"
    )


@pytest.mark.parametrize("test", [-1, 9, 1788])
def test_refuses_an_impossible_split(test):
    with pytest.raises(DataError, match=rf"^the digits have 1797 .* test takes 10 to 1787, got {test}$"):
        digits.load(test=test)


def test_dataset_refuses_what_does_not_fit():
    a, b = np.zeros((3, 2)), np.zeros((4, 2))
    with pytest.raises(DataError, match=r"^toy: trains on \['x'\] but tests on \['y'\]$"):
        Dataset("toy", {"x": a}, {"y": a})
    with pytest.raises(DataError, match=r"^toy: the test arrays have different lengths: \{'x': 3, 'y': 4\}$"):
        Dataset("toy", {"x": a, "y": a}, {"x": a, "y": b})
    with pytest.raises(DataError, match=r"samples of 'x' have shape \(2,\) in train, \(3,\) in test$"):
        Dataset("toy", {"x": a}, {"x": np.zeros((3, 3))})
