import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourbit_onnx.data import files, text_files
from fourbit_onnx.data.checks import Spec
from fourbit_onnx.errors import DataError


def read(path, *args, **options):
    got = text_files.read(path, *args, **options)
    assert list(got) == ["tokens", "labels"]
    assert got["tokens"].dtype == got["labels"].dtype == np.int64
    return got["tokens"].tolist(), got["labels"].tolist()


def test_a_file_by_hand(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("abcabcabcabcabcabcxz", "utf-8")  # 20 characters: 18 for training, 2 for the test
    tokens, labels = read(path, length=4)
    # a b c x z are 0 1 2 3 4; four samples take 17 characters, the 18th is left out
    assert tokens == [[0, 1, 2, 0], [1, 2, 0, 1], [2, 0, 1, 2], [0, 1, 2, 0]]
    assert labels == [[1, 2, 0, 1], [2, 0, 1, 2], [0, 1, 2, 0], [1, 2, 0, 1]]
    assert read(path, "test", length=1) == ([[3]], [[4]])


def test_a_folder_shares_its_vocabulary(tmp_path):
    (tmp_path / "train.txt").write_text("cac", "utf-8")
    (tmp_path / "test.txt").write_text("abb", "utf-8")
    assert read(tmp_path, length=2) == ([[2, 0]], [[0, 2]])
    assert read(tmp_path, "test", length=2) == ([[0, 1]], [[1, 1]])


@given(whole=st.text(st.characters(exclude_categories=["Cs"]), min_size=30, max_size=200))
def test_every_character_comes_back(tmp_path_factory, whole):
    folder = tmp_path_factory.mktemp("text")
    for name in text_files.PARTS.values():
        (folder / name).write_bytes(whole.encode())
    vocabulary = sorted(set(_as_read(whole)))
    samples = text_files.read(folder, length=1) if len(_as_read(whole)) > 1 else None
    if samples is not None:
        back = "".join(vocabulary[code] for code in samples["tokens"].ravel())
        assert back == _as_read(whole)[:-1]
        assert [vocabulary[code] for code in samples["labels"].ravel()] == list(_as_read(whole)[1:])


def _as_read(whole):
    return whole.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def test_line_ends_and_byte_order_marks(tmp_path):
    for name, data in (("unix", b"a\nb\n" * 10), ("dos", b"\xef\xbb\xbf" + b"a\r\nb\r\n" * 10)):
        (tmp_path / f"{name}.txt").write_bytes(data)
    assert read(tmp_path / "unix.txt", length=3) == read(tmp_path / "dos.txt", length=3)


def refusal(path, *args, **options):
    with pytest.raises(DataError) as caught:
        text_files.read(path, *args, **options)
    return str(caught.value).replace(str(path), "PATH")


def test_refuses(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("abcde" * 20, "utf-8")
    assert refusal(path, classes=4) == (
        "PATH has 5 different characters, the model has 4 classes; convert a model with more, or replace "
        "rare characters in the text"
    )
    assert len(text_files.read(path, classes=5)["tokens"]) == 1
    assert refusal(path, "test", length=10) == (
        "PATH has 10 characters for test, a sample takes 11; give a longer text, or a "
        "folder with train.txt and test.txt"
    )
    assert refusal(path, limit=100) == (
        "PATH would take 3.73e-06 GiB, more than 9.31e-08; split the text into smaller files"
    )
    assert refusal(tmp_path) == "PATH has no train.txt; put the text for it there"
    assert refusal(tmp_path / "none.txt") == "no data at PATH; give the path of an existing file"
    path.write_bytes("größer".encode("latin-1"))
    assert refusal(path) == "PATH is not UTF-8 (byte 2: invalid start byte); save it as UTF-8"


def test_size_is_checked_before_the_text_is_read(tmp_path, monkeypatch):
    path = tmp_path / "t.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: takes no room
    assert refusal(path).startswith("PATH would take ")


def test_by_the_model(tmp_path):
    path = tmp_path / "t.TXT"
    path.write_text("abcde" * 20, "utf-8")
    specs = {
        "ids": Spec("ids", np.dtype(np.int64), ("batch", 8)),
        "next": Spec("next", np.dtype(np.int64), ("batch", 8), classes=5),
    }
    got = files.open_data(path, list(specs), specs=specs)
    assert list(got) == ["ids", "next"]
    assert got["ids"].shape == (11, 8)
    free = {**specs, "ids": Spec("ids", np.dtype(np.int64), ("batch", "length"))}
    assert files.open_data(path, list(specs), specs=free)["ids"].shape == (1, 64)
    few = {**specs, "next": Spec("next", np.dtype(np.int64), ("batch", 8), classes=3)}
    with pytest.raises(DataError, match=r"has 5 different characters, the model has 3 classes"):
        files.open_data(path, list(specs), specs=few)


def test_texts_that_do_not_go_together(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("abc", "utf-8")
    files.check_together(tmp_path / "a.txt", tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"a\.txt and .*b\.txt would each number their own characters; put"):
        files.check_together(tmp_path / "a.txt", tmp_path / "b.txt")
    files.check_together(tmp_path / "a.txt", tmp_path / "b.npz")


def test_parts(tmp_path):
    (tmp_path / "a.txt").touch()
    assert files.has_parts(tmp_path / "a.txt")
    (tmp_path / "train.txt").touch()
    assert not files.has_parts(tmp_path)
    (tmp_path / "test.txt").touch()
    assert files.has_parts(tmp_path)
