import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from fourbit_onnx.data import npz
from fourbit_onnx.errors import DataError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Y = np.array([3, 1], np.int64)


def _bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_what_numpy_wrote(tmp_path, save):
    path = tmp_path / "d.npz"
    empty, fortran, big = np.zeros((0, 3), np.float32), np.asfortranarray(X[0]), np.array([1, 2], ">i4")
    save(path, image=X, labels=Y, empty=empty, fortran=fortran, big=big)
    got = npz.read(path)
    assert list(got) == ["image", "labels", "empty", "fortran", "big"]
    for name, expected in {"image": X, "labels": Y, "empty": empty, "fortran": fortran, "big": big}.items():
        assert got[name].shape == expected.shape
        assert got[name].dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(got[name], expected)


def test_keys_choose_and_rename(tmp_path):
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, note=np.array("made by hand"), junk=np.array([None]))
    got = npz.read(tmp_path / "d.npz", {"image": "x_train", "labels": "y_train"})
    assert list(got) == ["image", "labels"]
    np.testing.assert_array_equal(got["image"], X)
    with pytest.raises(DataError) as caught:
        npz.read(tmp_path / "d.npz", {"image": "x"})
    assert str(caught.value) == (
        f"{tmp_path / 'd.npz'} has no array 'x' for 'image'; it has: x_train, y_train, note, junk"
    )
    with pytest.raises(DataError, match=r"^'note.npy' in .* holds text; save numbers"):
        npz.read(tmp_path / "d.npz")
    with pytest.raises(DataError, match=r"^'junk.npy' in .* holds Python objects"):
        npz.read(tmp_path / "d.npz", {"image": "junk"})


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_anywhere(tmp_path, save):
    path = tmp_path / "d.npz"
    save(path, image=X, labels=Y)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"is no intact \.npz file"):
            npz.read(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_an_error_or_harmless(tmp_path, save):
    """Wherever it is: never another exception, never other numbers."""
    path = tmp_path / "d.npz"
    save(path, image=X, labels=Y)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for bit in (0, 3, 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                got = npz.read(path, {"image": "image", "labels": "labels"})
            except DataError:
                refused += 1
            else:
                assert np.array_equal(got["image"], X)
                assert np.array_equal(got["labels"], Y)
    assert refused > len(whole)  # about a third of them hit times, attributes and the like


def test_limit_comes_before_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, image=np.zeros((64, 1 << 20), np.uint8))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        npz.read(path, limit=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert str(caught.value) == (
        f"{path} would take 0.0625 GiB, more than 0.000977; "
        "save the arrays as .npy files in a folder, which are not loaded"
    )
    assert npz.read(path)["image"].shape == (64, 1 << 20)


def _write(path, members, patch=lambda info: None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02")  # the last entry of the directory
    patch((data, at))
    path.write_bytes(data)


def _claim(field, value):
    def patch(where):
        data, at = where
        struct.pack_into("<I", data, at + {"compressed": 20, "size": 24}[field], value)

    return patch


HEAD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s)}\n"


def _claiming(shape):
    head = HEAD % shape
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


HOSTILE = {
    "a lie about the size": (
        [("x.npy", _bytes(X))],
        _claim("size", 0xF0000000),
        "claims 4026531840 bytes from",
    ),
    "a lie about the packed size": (
        [("x.npy", _bytes(X))],
        _claim("compressed", 0xF0000000),
        "its directory lists more bytes than the file has",
    ),
    "a header that lies": ([("x.npy", _claiming(b"1 << 40,"))], None, "no readable"),
    "an array that is not there": (
        [("x.npy", _claiming(b"9999999999,"))],
        None,
        "cut short: 39999999996 bytes",
    ),
    "something after the array": ([("x.npy", _bytes(X) + b"!")], None, "too long: 96 bytes"),
    "another file": ([("x.npy", _bytes(X)), ("run.py", b"")], None, "holds 'run.py', which is no array"),
    "nothing": ([], None, "holds no array"),
}


@pytest.mark.parametrize(("members", "patch", "message"), HOSTILE.values(), ids=HOSTILE)
def test_refuses(tmp_path, members, patch, message):
    path = tmp_path / "d.npz"
    _write(path, members, patch or (lambda where: None))
    with pytest.raises(DataError, match=message):
        npz.read(path)


def test_refuses_the_same_name_twice(tmp_path):
    path = tmp_path / "d.npz"
    with pytest.warns(UserWarning, match="Duplicate name"):
        _write(path, [("x.npy", _bytes(X)), ("x.npy", _bytes(Y))])
    with pytest.raises(DataError, match="holds 'x' twice"):
        npz.read(path)


def test_refuses_other_compression_and_encryption(tmp_path):
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", _bytes(X))
    with pytest.raises(DataError, match="compressed in an unknown way"):
        npz.read(path)

    def encrypted(where):
        data, at = where
        data[at + 8] |= 1

    _write(path, [("x.npy", _bytes(X))], encrypted)
    with pytest.raises(DataError, match="is encrypted; save it without a password"):
        npz.read(path)


def test_shared_bytes_are_refused(tmp_path):
    """Many directory entries for the same packed bytes: the bomb that needs no nesting."""
    path = tmp_path / "d.npz"
    zeros = _bytes(np.zeros(1 << 20, np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", zeros)
        info = archive.infolist()[0]
        for name in "bcdefghijklmnop":
            other = zipfile.ZipInfo(f"{name}.npy")
            for field in ("compress_type", "CRC", "compress_size", "file_size", "header_offset"):
                setattr(other, field, getattr(info, field))
            archive.filelist.append(other)
    with pytest.raises(DataError, match=r"its directory lists more bytes than the file has$"):
        npz.read(path)


def test_not_a_zip(tmp_path):
    (tmp_path / "d.npz").write_bytes(_bytes(X))
    with pytest.raises(DataError, match=r"d.npz is no intact .npz file \(File is not a zip file\)"):
        npz.read(tmp_path / "d.npz")
