"""What is written by a rename never takes the place of a device, FIFO or socket."""

import os
import socket

import pytest
from cli import refusal, trained
from report_page import made

from fourbit_onnx.artifacts import targets
from fourbit_onnx.errors import ArtifactError
from fourbit_onnx.harness import folder, report
from fourbit_onnx.runtime import plot

WRITERS = {
    "picture": lambda path: plot.learning_curves({}, path),
    "report": lambda path: report.write(made(), path),
    "json": lambda path: folder.write_json(path, {}),
}


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
                targets.check(tmp_path / name)


def test_files_folders_and_nothing_may_be_tried(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("file", "nothing", "dangling", "", "file/below"):
        targets.check(tmp_path / name)
