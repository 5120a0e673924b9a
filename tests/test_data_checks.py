"""Every sentence about data that does not fit."""

import numpy as np
import pytest

from fourbit_onnx.data import checks
from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import DataError

IMAGES = Spec("x", np.dtype(np.float32), ("N", 3, 8, 8))
LABELS = Spec("labels", np.dtype(np.int64), ("N",), classes=10)
SPECS = {"x": IMAGES, "labels": LABELS}


def good(samples=4):
    return {"x": np.zeros((samples, 3, 8, 8), np.float32), "labels": np.arange(samples)}


def check(arrays, specs=SPECS):
    checks.structure(arrays, specs)
    for name, spec in specs.items():
        checks.values(name, arrays[name], spec)


def test_good_data():
    check(good())


def test_casts_that_are_allowed():
    for dtype in (np.float64, np.float16, np.float32):
        for integers in (np.int32, np.int64, np.uint8, np.uint32):
            arrays = {"x": good()["x"].astype(dtype), "labels": good()["labels"].astype(integers)}
            check(arrays)
            assert checks.cast(arrays["x"], IMAGES).dtype == np.float32
            assert checks.cast(arrays["labels"], LABELS).dtype == np.int64


def test_cast_gives_one_piece_of_memory():
    assert checks.cast(np.zeros((4, 8, 8, 3), np.float32).transpose(0, 3, 1, 2), IMAGES).flags.c_contiguous


def shaped(shape):
    return {"x": np.zeros(shape, np.float32)}


def labelled(array):
    return {"labels": array}


def at(name, place, value, dtype=None):
    array = good()[name].astype(dtype or good()[name].dtype)
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            shaped((4, 8, 8, 3)),
            "x has shape (4, 8, 8, 3), the model wants (N, 3, 8, 8); "
            "put the channels first: x.transpose(0, 3, 1, 2)",
        ),
        (
            shaped((4, 3, 9, 8)),
            "x has shape (4, 3, 9, 8), the model wants (N, 3, 8, 8); "
            "reshape the data, or convert a model made for this shape",
        ),
        (
            shaped(()),
            "x has shape (), the model wants (N, 3, 8, 8); "
            "reshape the data, or convert a model made for this shape",
        ),
        (
            labelled(np.eye(10, dtype=np.int64)[:4]),
            "labels has shape (4, 10), the model wants (N,); "
            "if these are one-hot labels, write labels.argmax(-1)",
        ),
        (
            labelled(np.zeros((4, 1), np.int64)),
            "labels has shape (4, 1), the model wants (N,); write labels[..., 0]",
        ),
        (
            {"x": np.zeros((4, 3, 8, 8), np.uint8)},
            "x is uint8, the model wants float32; "
            "convert it with x.astype(np.float32) / 255 if these are pixels",
        ),
        (
            {"x": np.zeros((4, 3, 8, 8), np.int64)},
            "x is int64, the model wants float32; convert it with x.astype(np.float32)",
        ),
        (
            {"x": np.zeros((4, 3, 8, 8), bool)},
            "x is bool, the model wants float32; convert it with x.astype(np.float32)",
        ),
        *(
            (
                {"x": np.full((4, 3, 8, 8), "cat", kind)},
                "x is text, the model wants float32; give numbers, of classes their index: numpy.unique(x, "
                "return_inverse=True)[1]",
            )
            for kind in ("U3", "S3")
        ),
        (
            {"x": np.array([None] * 4)},
            "x is object, the model wants float32; make all samples the same shape and numeric",
        ),
        (
            labelled(np.zeros(4, np.float32)),
            "labels is float32, the model wants int64; convert it with labels.astype(np.int64)",
        ),
        (
            labelled(np.array([0, 1.5, 2, 3], np.float32)),
            "labels is float32, the model wants int64; it has numbers that are not whole: give the index of "
            "each sample's class, 0, 1, 2, ... (of a CSV the last column, unless --key labels=NAME "
            "names another)",
        ),
        (
            labelled(np.eye(4, 10, dtype=np.float32)),
            "labels has shape (4, 10), the model wants (N,); if these are one-hot labels, write "
            "labels.argmax(-1)",
        ),
        (
            labelled(np.zeros(4, np.uint64)),
            "labels is uint64, the model wants int64; convert it with labels.astype(np.int64)",
        ),
        (
            labelled(np.zeros(5, np.int64)),
            "the arrays have different numbers of samples: x 4, labels 5; give one label a sample",
        ),
        (
            at("x", (2, 1, 0, 7), np.nan),
            "x[2, 1, 0, 7] is nan; remove or replace such samples: numbers must be finite",
        ),
        (
            at("x", (3, 0, 0, 0), -np.inf),
            "x[3, 0, 0, 0] is -inf; remove or replace such samples: numbers must be finite",
        ),
        (
            at("x", (0, 2, 0, 0), 1e300, np.float64),
            "x[0, 2, 0, 0] is 1e+300, too large for float32; rescale the data",
        ),
        (
            at("labels", 2, 10),
            "label out of range: labels[2] is 10, the model has 10 classes (0..9); labels start at 0: "
            "correct the labels, or convert a model with more classes",
        ),
        (
            at("labels", 1, 11),  # not for where they start
            "label out of range: labels[1] is 11, the model has 10 classes (0..9): "
            "correct the labels, or convert a model with more classes",
        ),
        (
            at("labels", 3, -1),
            "label out of range: labels[3] is -1, the model has 10 classes (0..9): "
            "correct the labels, or convert a model with more classes",
        ),
        ({"y": np.zeros(4)}, "the model has no input 'y'; it wants 'x', 'labels': leave 'y' out"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(DataError) as caught:
        check({**good(), **change})
    assert str(caught.value) == message


def test_missing_array():
    with pytest.raises(DataError) as caught:
        check({"x": good()["x"]})
    assert str(caught.value) == "the data has no 'labels'; it has 'x', the model wants 'x', 'labels'"


@pytest.mark.parametrize(
    ("shape", "found", "remedy"),
    [
        (("N", 1, 8, 8), (4, 8, 8), "write x[:, None]"),
        (("N", 8, 8, 1), (4, 8, 8), "write x[..., None]"),
        (("N", 64), (4, 8, 8), "write x.reshape(len(x), -1)"),
        (("N", 1), (4,), "write x[:, None]"),
    ],
)
def test_remedies_for_usual_slips(shape, found, remedy):
    spec = Spec("x", np.dtype(np.float32), shape)
    array = np.zeros(found, np.float32)
    with pytest.raises(DataError) as caught:
        checks.structure({"x": array}, {"x": spec})
    assert str(caught.value).endswith(f"; {remedy}")
    fixed = eval(remedy.removeprefix("write "), {"x": array})
    checks.structure({"x": fixed}, {"x": spec})


def test_sizes_of_one_name_agree():
    specs = {
        "ids": Spec("ids", np.dtype(np.int64), ("N", "T")),
        "labels": Spec("labels", np.dtype(np.int64), ("N", "T")),
    }
    with pytest.raises(DataError) as caught:
        check({"ids": np.zeros((2, 5), np.int64), "labels": np.zeros((2, 6), np.int64)}, specs)
    assert str(caught.value) == (
        "labels has 6 along axis 1, ids has 5; the model calls both 'T' and wants them equal: "
        "cut or pad one of them"
    )


def test_targets_of_binary_cross_entropy():
    spec = Spec("t", np.dtype(np.float32), ("N", 2), unit=True)
    check({"t": np.array([[0, 1], [0.5, 1]])}, {"t": spec})
    with pytest.raises(DataError) as caught:
        check({"t": np.array([[0, 1], [0.5, 255]])}, {"t": spec})
    assert str(caught.value) == "t[1, 1] is 255.0, targets of this loss are within 0..1; rescale them"


def test_index_behind_the_first_part_of_a_large_array(monkeypatch):
    monkeypatch.setattr(checks, "_ROWS", 400)
    array = good(50)["x"]
    array[37, 0, 0, 1] = np.inf
    with pytest.raises(DataError, match=r"x\[37, 0, 0, 1\] is inf"):
        checks.values("x", array, IMAGES)


def test_index_in_the_whole_data_set():
    array = np.zeros((3, 3, 8, 8), np.float32)
    array[1, 2, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"x\[812, 2, 0, 0\] is nan"):
        checks.values("x", array, IMAGES, rows=np.array([5, 812, 7]))


def test_columns_of_a_csv_need_a_shape():
    with pytest.raises(DataError, match=r"a CSV has no shape: save it as an \.npz with one"):
        check({**good(), "x": np.zeros((4, 192), np.float32)})


@pytest.mark.parametrize(
    ("tokens", "remedy"),
    [
        (np.array([[1, 2], [3]], object), "make all samples the same shape and numeric"),
        (np.full((4, 16), 0.5, np.float32), "it has numbers that are not whole: give integers"),
        (np.full((4, 16), 2, np.float32), "convert it with ids.astype(np.int64)"),
    ],
)
def test_integers_that_are_no_labels(tokens, remedy):
    """Nothing is said of classes, nor of a CSV."""
    with pytest.raises(DataError, match=f"^ids is {tokens.dtype}, the model wants int64; ") as caught:
        checks.structure({"ids": tokens}, {"ids": Spec("ids", np.dtype(np.int64), ("N", 16))})
    assert str(caught.value).endswith(f"; {remedy}")


@pytest.mark.parametrize("label", [np.inf, 1.5])
def test_a_label_that_is_not_whole_behind_the_first_part(label, monkeypatch):
    monkeypatch.setattr(checks, "_ROWS", 4)
    labels = np.zeros(10, np.float32)
    labels[9] = label
    with pytest.raises(DataError, match=r"the model wants int64; it has numbers that are not whole: give"):
        checks.structure({"labels": labels}, {"labels": LABELS})
