"""What is written by a rename: whole or not at all, and never in place of a device, FIFO or socket."""

import errno
import os
import socket
from pathlib import Path

import pytest
from cli import listing, refusal, trained
from report_page import made

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.harness import folder, report
from fourbit_onnx.runtime import plot

WRITERS = {
    "picture": lambda path: plot.learning_curves({}, path),
    "report": lambda path: report.write(made(), path),
    "json": lambda path: folder.write_json(path, {}),
}


REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EROFS: "make {} writable",
    errno.EISDIR: "choose another name",
    errno.EIO: "remove the cause",
}


@pytest.mark.parametrize("number", REMEDIES)
@pytest.mark.parametrize("call", [(os, "fsync"), (Path, "replace")])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, number, call):
    path = tmp_path / "x.json"
    path.write_text("old")

    def failing(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*call, failing)
    with pytest.raises(ArtifactError) as caught:
        whole_file.write(path, "new")
    remedy = REMEDIES[number].format(tmp_path)
    assert str(caught.value) == (
        f"cannot write {path}: {os.strerror(number)}; nothing was left behind: {remedy}"
    )
    assert listing(tmp_path) == {path.relative_to(tmp_path): b"old"}


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        whole_file.write(tmp_path / "x.json", "new")
    assert list(tmp_path.iterdir()) == []


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "x.json", []
    real = os.fsync

    def look(handle):
        real(handle)
        seen.append((os.fstat(handle).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", look)
    whole_file.write(path, b"new")
    assert seen == [(3, False)]


def test_two_at_once_do_not_meet(tmp_path, monkeypatch):
    path, real = tmp_path / "x.json", os.fsync

    def meanwhile(handle):
        monkeypatch.setattr(os, "fsync", real)
        whole_file.write(path, "inner")
        real(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    whole_file.write(path, "outer")
    assert listing(tmp_path) == {path.relative_to(tmp_path): b"outer"}


def test_text_is_utf_8_folders_are_made_and_rights_are_the_users(tmp_path):
    path = tmp_path / "a" / "b" / "x.html"
    before = os.umask(0o027)
    try:
        whole_file.write(path, "\u2212\r\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"\xe2\x88\x92\r\n"
    assert path.stat().st_mode & 0o777 == 0o640
    whole_file.write(path, b"\xff")
    assert path.read_bytes() == b"\xff"


def test_a_folder_is_not_a_file(tmp_path, monkeypatch):
    (tmp_path / "x" / "thesis").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("x", ".", ".."):
        with pytest.raises(ArtifactError, match=r"^cannot write .*: .*; nothing was left behind: "):
            whole_file.write(Path(name), "new")
    assert os.listdir(tmp_path) == ["x"]
    assert os.listdir(tmp_path / "x") == ["thesis"]


def sentence(path):
    return f"{path} is a device, FIFO or socket, so it is not overwritten; choose the name of a file"


def test_export_leaves_a_fifo(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    assert refusal("export", trained(), "-o", tmp_path / "m.onnx") == sentence(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").is_fifo()
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_fifo_is_left(tmp_path, write):
    path = tmp_path / "x.png"
    os.mkfifo(path)
    with pytest.raises(ArtifactError) as refused:
        write(path)
    assert str(refused.value) == sentence(path)
    assert path.is_fifo()
    assert len(os.listdir(tmp_path)) == 1


def test_a_link_to_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's name has a largest length
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s")
        (tmp_path / "link").symlink_to("s")
        for name in ("s", "link"):
            with pytest.raises(ArtifactError, match="device, FIFO or socket"):
                whole_file.check(tmp_path / name)


def test_files_folders_and_nothing_may_be_tried(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "nothing", "dangling", "", "file/below"):
        whole_file.check(tmp_path / name)


def test_a_place_is_tried_before_long_work(tmp_path):
    """What `write` would refuse is refused, and nothing made; what it would take is taken."""
    (tmp_path / "file").write_text("old")
    for name in ("file", "new", "a/b/new"):
        whole_file.check_place(tmp_path / name)
    assert listing(tmp_path) == {Path("file"): b"old"}
    assert os.listdir(tmp_path) == ["file"]
    os.mkfifo(tmp_path / "fifo")
    nowhere = Path("/proc/nowhere/x")
    for path, said in {
        tmp_path / "fifo": sentence(tmp_path / "fifo"),
        tmp_path: f"{tmp_path} is a folder; choose the name of a file",
        nowhere: f"cannot write {nowhere}: No such file or directory; choose another place",
        tmp_path / "file" / "x": f"cannot write {tmp_path}/file/x: Not a directory; choose another name",
    }.items():
        for function in (whole_file.check_place, lambda path: whole_file.write(path, "new")):
            with pytest.raises(ArtifactError) as refused:
                function(path)
            if function is whole_file.check_place:
                assert str(refused.value) == said


def test_a_folder_that_cannot_be_made(tmp_path):
    assert whole_file.make_folder(tmp_path / "a" / "b")
    assert not whole_file.make_folder(tmp_path / "a")
    (tmp_path / "file").touch()
    nowhere = Path("/proc/nowhere/x")
    for path, said in {
        tmp_path / "file": f"{tmp_path}/file is a file; choose a folder as the output",
        tmp_path / "file" / "x": f"cannot make {tmp_path}/file/x: Not a directory; choose another name",
        nowhere: f"cannot make {nowhere}: No such file or directory; choose another place",
    }.items():
        with pytest.raises(ArtifactError) as refused:
            whole_file.make_folder(path)
        assert str(refused.value) == said
