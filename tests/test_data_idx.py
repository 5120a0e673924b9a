import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from fourbit_onnx.data import idx
from fourbit_onnx.errors import DataError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4) * 10
LABELS = np.array([7, 2], np.uint8)


def idx_bytes(array):
    """The real layout, written by hand."""
    code = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    head = struct.pack(">BBBB", 0, 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def mnist(folder, images=IMAGES, labels=LABELS, prefix="train", pack=lambda data: data, suffix=""):
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_reads_every_type(tmp_path, kind, pack):
    array = np.array([[1, 2, 3], [100, 5, 6]], kind)
    (tmp_path / "x").write_bytes(pack(idx_bytes(array)))
    got = idx.read(tmp_path / "x")
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_mnist_folder(tmp_path, pack, suffix):
    mnist(tmp_path, pack=pack, suffix=suffix)
    mnist(tmp_path, IMAGES[:1], LABELS[:1], "t10k", pack, suffix)
    got = idx.read_folder(tmp_path)
    assert got["image"].shape == (2, 1, 3, 4)
    assert got["image"].dtype == np.float32
    np.testing.assert_array_equal(got["image"][:, 0], IMAGES / np.float32(255))
    assert got["labels"].dtype == np.int64
    assert got["labels"].tolist() == [7, 2]
    assert len(idx.read_folder(tmp_path, "test")["image"]) == 1


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated_at_every_byte(tmp_path, pack):
    path, whole = tmp_path / "x", pack(idx_bytes(IMAGES))
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"x is (no IDX file|cut short|damaged)"):
            idx.read(path)


def test_says_how_much_is_missing(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(IMAGES)[:-3])
    with pytest.raises(DataError) as caught:
        idx.read(path)
    assert (
        str(caught.value) == f"{path} is cut short: 24 bytes of numbers expected, 21 found; download it again"
    )
    for pack in (bytes, gzip.compress):
        path.write_bytes(pack(idx_bytes(IMAGES) + b"!"))
        with pytest.raises(DataError, match="too long: 24 bytes of numbers expected, 25 found"):
            idx.read(path)


def test_a_wrong_checksum_is_damage(tmp_path):
    data = bytearray(gzip.compress(idx_bytes(IMAGES)))
    data[-8] ^= 1
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(DataError, match=r"is damaged \(CRC check failed"):
        idx.read(tmp_path / "x")


HEAD = struct.pack(">BBBBIII", 0, 0, 8, 3, 1 << 10, 1 << 11, 1 << 11)
HOSTILE = {
    "4 GiB that are not there": (HEAD, "cut short: 4294967296 bytes"),
    "packed": (gzip.compress(HEAD), "cut short: 4294967296 bytes"),
    "16 TiB": (HEAD[:4] + b"\0\1\0\0" * 3, "would take 2.62e.05 GiB, more than 8"),
    "more than 64 bits": (HEAD[:4] + b"\xff" * 12, "GiB, more than 8"),
    "no type": (b"\0\0\x07\x01\0\0\0\1\0", "no IDX file: it begins with 00 00 07 01, 00 00 08 03 expected"),
    "no rank": (b"\0\0\x08\0", "no IDX file"),
    "rank 255": (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\0", "no IDX file"),
    "nothing": (b"", "it begins with nothing"),
    "web page": (b"<html>", "no IDX file: it begins with 3c 68 74 6d"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_refuses_before_it_takes_memory(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        idx.read(tmp_path / "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_refuses_a_folder_that_does_not_fit(tmp_path):
    with pytest.raises(
        DataError, match=r"has no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz; put it"
    ):
        idx.read_folder(tmp_path)
    mnist(tmp_path, labels=LABELS[:1])
    with pytest.raises(DataError, match="has 2 images but 1 labels in train; download both again"):
        idx.read_folder(tmp_path)
    mnist(tmp_path, images=IMAGES.astype(np.float32))
    with pytest.raises(DataError, match="holds float32 of rank 3, uint8 of rank 3 expected"):
        idx.read_folder(tmp_path)
