import struct

import numpy as np
import pytest

from fourbit_onnx.data import npy
from fourbit_onnx.errors import DataError

ARRAYS = {
    "images": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "labels": np.array([3, 1, 2], np.uint8),
    "big endian": np.array([1, 2, 3], ">i4"),
    "empty": np.zeros((0, 5), np.float32),
    "half": np.array([0.5], np.float16),
    "bool": np.array([True, False]),
    "scalar": np.array(4.0),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_reads_what_numpy_wrote(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    got = npy.read(tmp_path / "x.npy")
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


def test_is_mapped_not_read(tmp_path):
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 15)}
        np.lib.format.write_array_header_2_0(file, head)
        file.truncate(file.tell() + (4 << 35))  # 128 GiB, all of them a hole
    array = npy.read(path)
    assert isinstance(array, np.memmap)
    assert array[1 << 19, 7] == 0
    assert not array.flags.writeable


def test_truncated_at_every_byte(tmp_path):
    np.save(tmp_path / "x.npy", ARRAYS["images"])
    whole = (tmp_path / "x.npy").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut.npy").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.npy is (no readable \.npy array|cut short)") as caught:
            npy.read(tmp_path / "cut.npy")
        assert "\n" not in str(caught.value)


def test_says_how_much_is_missing(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, ARRAYS["images"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(DataError) as caught:
        npy.read(path)
    assert str(caught.value) == (
        f"{path} is cut short: 96 bytes of numbers expected, 91 found; write it again with numpy.save"
    )
    path.write_bytes(whole + b"more")
    with pytest.raises(DataError, match="too long: 96 bytes of numbers expected, 100 found"):
        npy.read(path)


def _raw(header: bytes, version=(1, 0), size=None):
    kind = {1: "<H", 2: "<I", 3: "<I"}[version[0]]
    length = struct.pack(kind, len(header) if size is None else size)
    return b"\x93NUMPY" + bytes(version) + length + header


def _head(shape, descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()


HOSTILE = {
    "not npy": (b"hello, world", "no readable"),
    "nothing": (b"", "no readable"),
    "version 9": (_raw(_head("(1,)"), (1, 9)), r"format version 1\.9"),
    "version 3": (_raw(_head("(1,)"), (3, 0)), r"format version 3\.0"),
    "header of 4 GiB": (_raw(b"{", (2, 0), 0xFFFFFFFF), "a header of 4294967295 bytes"),
    "header past the end": (_raw(b"{", size=9000), "no readable"),
    "no literal": (_raw(b"__import__('os').system('false')\n"), "no readable"),
    "half a literal": (_raw(b"{'descr': (\n"), "no readable"),
    "bad dtype": (_raw(_head("(1,)", "'<q9'")), "no readable"),
    "dtype of nothing": (_raw(_head("(1,)", "(('a',),)")), "no readable"),
    "dtype that does not parse": (_raw(_head("(1,)", "',<f4'")), "no readable"),
    "unhashable": (_raw(b"{[]: 1}\n"), "no readable"),
    "five thousand signs": (_raw(b"-" * 5000 + b"1\n"), "no readable"),
    "dtype with a shape": (_raw(_head("(1,)", "('<f4', (3,))")), "save numbers"),
    "deep nesting": (_raw(b"(" * 5000), "no readable"),
    "more than the file": (
        _raw(_head("(1000000, 1000000, 1000000)")),
        "cut short: 4000000000000000000 bytes",
    ),
    "more than 64 bits": (_raw(_head("(99999999999999, 99999999999999)")), "cut short"),
    "huge and empty": (_raw(_head("(0, 9223372036854775807)")), "no readable"),
    "negative": (_raw(_head("(-1, 4)")), "no readable"),
    "bool size": (_raw(_head("(True, 4)")), "no readable"),
    "rank 60": (_raw(_head("(" + "1," * 60 + ")")), "no readable"),
    "objects": (_raw(_head("(1,)", "'|O'")), "holds Python objects, which are not read for safety"),
    "objects inside": (_raw(_head("(1,)", "[('a', '|O')]")), "holds Python objects"),
    "text": (_raw(_head("(1,)", "'<U3'")), "holds text; save numbers"),
    "bytes": (_raw(_head("(1,)", "'|S3'")), "holds text; save numbers"),
    "complex": (_raw(_head("(1,)", "'<c8'")), "holds complex64; save numbers"),
    "fields": (_raw(_head("(1,)", "[('a', '<f4')]")), "save numbers"),
    "no bytes": (_raw(_head("(5,)", "'|V0'")), "save numbers"),
    "long double": (_raw(_head("(1,)", "'<f16'")), "floats of at most 64 bits"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_refuses(tmp_path, content, message):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=message):
        npy.read(tmp_path / "x.npy")


def test_folder(tmp_path):
    for name in ("images", "labels"):
        np.save(tmp_path / f"{name}.npy", ARRAYS[name])
    assert list(npy.read_folder(tmp_path)) == ["images", "labels"]
    got = npy.read_folder(tmp_path, {"x": "labels"})
    assert list(got) == ["x"]
    np.testing.assert_array_equal(got["x"], ARRAYS["labels"])
    with pytest.raises(DataError, match=r"has no array 'y' for 'x'; it has: images, labels$"):
        npy.read_folder(tmp_path, {"x": "y"})


def test_missing_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"^no data at .*none\.npy; give the path of an existing file$"):
        npy.read(tmp_path / "none.npy")
    with pytest.raises(DataError, match=r"is a folder; give a file in it$"):
        npy.read(tmp_path)
