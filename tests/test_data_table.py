import numpy as np
import pytest

from fourbit_onnx.data import table
from fourbit_onnx.errors import DataError


def _read(tmp_path, text, **options):
    (tmp_path / "d.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return table.read(tmp_path / "d.csv", **options)


READS = {
    "no header, last column": ("1,2,0\n3,4,1\n", [[1, 2], [3, 4]], [0, 1]),
    "header": ("a,b,c\n1,2,0\n3,4,1\n", [[1, 2], [3, 4]], [0, 1]),
    "named labels": ("a,labels,c\n1,2,0\n", [[1, 0]], [2]),
    "named label": ("label,b,c\n1,2,0\n", [[2, 0]], [1]),
    "named target, spaces": ("a, target,c\n1, 2,0\n", [[1, 0]], [2]),
    "windows, byte order mark, no last line end": ("\ufeff1,2\r\n3,4", [[1], [3]], [2, 4]),
    "empty lines, quotes": ('1,"2"\n\n  \n3,4\n', [[1], [3]], [2, 4]),
    "whole but huge": ("1,1e30\n", [[1]], [1e30]),
    "real labels": ("1,2.5\n", [[1]], [2.5]),
    "exponents and signs": ("-1e-3,+2,7\n", [[-1e-3, 2]], [7]),
    "labels that are whole": ("1,2.0\n", [[1]], [2]),
}


@pytest.mark.parametrize(("text", "inputs", "labels"), READS.values(), ids=READS)
def test_reads(tmp_path, text, inputs, labels):
    got = _read(tmp_path, text)
    assert list(got) == ["image", "labels"]
    assert got["image"].dtype == np.float32
    np.testing.assert_array_equal(got["image"], np.array(inputs, np.float32))
    assert got["labels"].dtype == (np.float32 if labels[0] in (2.5, 1e30) else np.int64)
    np.testing.assert_array_equal(got["labels"], np.array(labels, got["labels"].dtype))


def test_named_column(tmp_path):
    got = _read(tmp_path, "a,b,c\n1,2,0\n", names=("x", "y"), label="a")
    np.testing.assert_array_equal(got["x"], [[2, 0]])
    np.testing.assert_array_equal(got["y"], [1])


REFUSES = {
    "empty": ("", {}, "is empty; give a file with a sample a line"),
    "only empty lines": ("\n\n", {}, "is empty"),
    "only a header": ("a,b\n", {}, "has a header and no samples"),
    "one column": ("1\n2\n", {}, "has one column; give at least one number and the label"),
    "short line": (
        "1,2\n3\n",
        {},
        "line 2: 1 columns, 2 expected as in the first line; complete or remove it",
    ),
    "long line": ("a,b\n\n3,4,5\n", {}, "line 3: 3 columns, 2 expected"),
    "text": ("1,2\n3,four\n", {}, "line 2, column 2: 'four' is no finite float32; replace it"),
    "missing": ("1,2\n,4\n", {}, "line 2, column 1: '' is no finite float32"),
    "nan": ("1,2\nnan,4\n", {}, "line 2, column 1: 'nan' is no finite"),
    "nan in the first line": ("nan,2\n", {}, "line 1, column 1: 'nan' is no finite"),
    "too large": ("1,2\n1e39,4\n", {}, "line 2, column 1: '1e39' is no finite float32"),
    "underscore": ("1,2\n1_0,4\n", {}, "'1_0' is no finite"),
    "no such column": ("a,b\n1,2\n", {"label": "c"}, "has no column 'c'; its header has: a, b"),
    "column without header": ("1,2\n", {"label": "c"}, "has no column 'c'; it has no header"),
    "open quote": ('1,2\n"3,4\n', {}, "after line 2: unexpected end of data; save it as CSV in UTF-8"),
    "not text": (b"1,2\n\xff\xfe,3\n", {}, "save it as CSV in UTF-8"),
    "not text at all": (b"\xbc1,2\n", {}, "at its beginning: 'utf-8' codec"),
    "null": ("1,2\n\0,3\n", {}, "line 2, column 1: '.x00' is no finite"),
    "one endless field": ("1,2\n" + "7" * 200_000 + ",1\n", {}, "field larger than field limit"),
    "too large for memory": ("1,2\n" * 100, {"limit": 3999}, "would take 3.73e-06 GiB, more than 3.72e-06"),
}


@pytest.mark.parametrize(("text", "options", "message"), REFUSES.values(), ids=REFUSES)
def test_refuses(tmp_path, text, options, message):
    with pytest.raises(DataError, match=message) as caught:
        _read(tmp_path, text, **options)
    assert "d.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
