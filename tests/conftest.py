"""What holds for all tests."""

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c():
    """A shell starts background jobs with Ctrl-C ignored; tests of Ctrl-C must not depend on that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def trainer(tmp_path):
    """On the hand-written artifact folder."""
    from artifact_folder import write

    from fourbit_onnx.runtime.trainer import Trainer

    return Trainer(write(tmp_path / "out"), threads=1, native=False)


@pytest.fixture
def folder(tmp_path):
    """A small model for the digits, as ``fourbit convert`` leaves it."""
    from cli import fourbit, mlp

    assert fourbit("convert", mlp(), "-o", tmp_path / "out").exit_code == 0
    return tmp_path / "out"


@pytest.fixture
def in_process(monkeypatch):
    """Runs of a check are made in this process, one after the other."""
    from harness_runs import InProcess

    from fourbit_onnx.harness import check

    monkeypatch.setattr(check, "Workers", InProcess)
    monkeypatch.setattr(InProcess, "deaths", frozenset())
