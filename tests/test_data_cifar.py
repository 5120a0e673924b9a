import numpy as np
import pytest

from fourbit_onnx.data import cifar
from fourbit_onnx.errors import DataError

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (6, 3072), np.uint8)
LABELS = np.array([3, 9, 0, 1, 2, 5], np.uint8)


def cifar10(folder):
    """Two records a training batch would be twelve; here one each, and one for the test."""
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(LABELS[i : i + 1].tobytes() + PIXELS[i].tobytes())
    (folder / "test_batch.bin").write_bytes(LABELS[5:].tobytes() + PIXELS[5].tobytes())


def test_cifar10(tmp_path):
    cifar10(tmp_path)
    got = cifar.read_folder(tmp_path)
    assert got["labels"].tolist() == [3, 9, 0, 1, 2]
    assert got["labels"].dtype == np.int64
    assert got["image"].dtype == np.float32
    expected = PIXELS[:5].reshape(5, 3, 32, 32) / np.float32(255)
    np.testing.assert_array_equal(got["image"], expected)
    assert cifar.read_folder(tmp_path, "test")["labels"].tolist() == [5]


def test_cifar100_gives_the_fine_labels(tmp_path):
    (tmp_path / "train.bin").write_bytes(
        b"\x04\x63" + PIXELS[0].tobytes() + b"\x05\x0a" + PIXELS[1].tobytes()
    )
    got = cifar.read_folder(tmp_path, names=("x", "y"))
    assert got["y"].tolist() == [99, 10]
    np.testing.assert_array_equal(got["x"][1], PIXELS[1].reshape(3, 32, 32) / np.float32(255))


def test_refuses(tmp_path):
    with pytest.raises(DataError, match=r"has no data_batch_1\.bin or train\.bin; put the binary version"):
        cifar.read_folder(tmp_path)
    cifar10(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    whole = path.read_bytes()
    for size in (0, 1, 1500, 3072, 3074):
        path.write_bytes((whole + b"!")[:size])
        with pytest.raises(
            DataError, match=rf"data_batch_2\.bin is cut short: {size} bytes are no multiple of 3073"
        ):
            cifar.read_folder(tmp_path)
    path.write_bytes(b"\x0a" + whole[1:])
    with pytest.raises(DataError, match=r"has label 10 in record 0, 0\.\.9 expected; download it again"):
        cifar.read_folder(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match=r"no data at .*data_batch_2\.bin"):
        cifar.read_folder(tmp_path)
