import gzip

import numpy as np
import pytest
from test_data_cifar import cifar10
from test_data_idx import mnist

from fourbit_onnx.data import named
from fourbit_onnx.data.files import has_parts, open_data
from fourbit_onnx.errors import DataError

X = np.arange(6, dtype=np.float32).reshape(2, 3)
Y = np.array([1, 0], np.int64)


def _npz(folder):
    np.savez(folder / "d.npz", image=X, labels=Y)
    return folder / "d.npz"


def _npy(folder):
    np.save(folder / "image.npy", X)
    np.save(folder / "labels.npy", Y)
    return folder


def _csv(folder):
    (folder / "d.CSV").write_text("0,1,2,1\n3,4,5,0\n")
    return folder / "d.CSV"


@pytest.mark.parametrize("make", [_npz, _npy, _csv])
def test_same_arrays_from_every_kind(tmp_path, make):
    path = make(tmp_path)
    for given in (path, str(path)):
        got = open_data(given)
        assert list(got) == ["image", "labels"]
        np.testing.assert_array_equal(got["image"], X)
        np.testing.assert_array_equal(got["labels"], Y)


def test_names_and_keys(tmp_path):
    assert list(open_data(_csv(tmp_path), ("x", "y"))) == ["x", "y"]
    assert list(open_data(_npz(tmp_path), keys={"x": "image"})) == ["x"]
    np.save(tmp_path / "image.npy", X)
    assert list(open_data(tmp_path / "image.npy", ("x", "y"))) == ["x"]
    (tmp_path / "h.csv").write_text("a,b\n1,2\n")
    assert open_data(tmp_path / "h.csv", keys={"labels": "a"})["labels"].tolist() == [1]


def test_keys_of_data_without_names(tmp_path):
    """CIFAR's labels are where they are, whatever a key says; that was ignored."""
    cifar10(tmp_path)
    assert list(open_data(tmp_path, keys={"image": "image", "labels": "labels"})) == ["image", "labels"]
    np.save(tmp_path / "x.npy", X)
    for path in (tmp_path / "x.npy", tmp_path):
        with pytest.raises(DataError) as refused:
            open_data(path, keys={"image": "image", "labels": "coarse"})
        said = f"{path} has no arrays by name, so nothing is at --key labels=coarse; leave it out"
        assert str(refused.value) == said
        (tmp_path / "x.npy").unlink(missing_ok=True)
    assert list(named.find("digits", ["image", "labels"], keys={"labels": "labels"})) == ["image", "labels"]
    with pytest.raises(
        DataError, match="'digits' is built in, so nothing is at --key labels=x; leave it out"
    ):
        named.find("digits", ["image", "labels"], keys={"labels": "x"})


def test_folders_of_published_data(tmp_path):
    for name in ("mnist", "cifar"):
        (tmp_path / name).mkdir()
    mnist(tmp_path / "mnist")
    cifar10(tmp_path / "cifar")
    assert open_data(tmp_path / "mnist", ("x", "y"))["x"].shape == (2, 1, 3, 4)
    assert open_data(tmp_path / "cifar", ("x", "y"))["x"].shape == (5, 3, 32, 32)
    assert open_data(tmp_path / "cifar", split="test")["image"].shape == (1, 3, 32, 32)


def test_refuses(tmp_path):
    with pytest.raises(
        DataError, match=r"^no data at .*none\.npz; give \.npz, \.npy, \.csv, \.txt, or a folder"
    ):
        open_data(tmp_path / "none.npz")
    (tmp_path / "d.parquet").touch()
    with pytest.raises(DataError, match=r"d\.parquet is of an unknown kind; give \.npz"):
        open_data(tmp_path / "d.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"^the folder .*empty holds no data; give \.npz"):
        open_data(tmp_path / "empty")
    (tmp_path / "train-images-idx3-ubyte").touch()
    with pytest.raises(DataError, match=r"is one file of several; give its folder, "):
        open_data(tmp_path / "train-images-idx3-ubyte")
    with pytest.raises(DataError, match=r"^no split 'val'; there are: train, test$"):
        open_data(tmp_path, split="val")
    with pytest.raises(DataError, match=r"has one input and one label, the model takes a, b, y: use \.npz$"):
        open_data(_csv(tmp_path), ("a", "b", "y"))


def test_refuses_arrays_that_do_not_go_together(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, image=X, labels=Y[:1])
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value) == (
        f"the arrays of {path} have different numbers of samples: image 2, labels 1; give one label a sample"
    )
    np.savez(path, image=X, labels=np.int64(3))
    with pytest.raises(
        DataError, match=r"^'labels' in .* is a single number; give an array with a sample a row$"
    ):
        open_data(path)


def test_folders_with_parts(tmp_path):
    for name, make in (("mnist", mnist), ("cifar", cifar10), ("npy", _npy)):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    assert has_parts(tmp_path / "mnist")
    assert has_parts(tmp_path / "cifar")
    assert not has_parts(tmp_path / "npy")
    assert not has_parts(_npz(tmp_path))
    assert named.has_parts("digits")
    assert not named.has_parts(str(tmp_path / "digits"))


def test_gzipped_fashion_mnist_and_cifar_100(tmp_path):
    """The files as they are published: IDX in gzip, and CIFAR-100 with coarse and fine labels."""
    for name in ("fashion", "cifar-100-binary"):
        (tmp_path / name).mkdir()
    mnist(tmp_path / "fashion", pack=gzip.compress, suffix=".gz")
    mnist(tmp_path / "fashion", prefix="t10k", pack=gzip.compress, suffix=".gz")
    assert open_data(tmp_path / "fashion")["image"].shape == (2, 1, 3, 4)
    assert open_data(tmp_path / "fashion", split="test")["labels"].tolist() == [7, 2]
    for part, fine in (("train", b"\x63"), ("test", b"\x07")):
        (tmp_path / "cifar-100-binary" / f"{part}.bin").write_bytes(b"\x04" + fine + bytes(3072))
    for part, fine in (("train", 99), ("test", 7)):
        assert open_data(tmp_path / "cifar-100-binary", split=part)["labels"].tolist() == [fine]
