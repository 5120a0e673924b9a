"""What is shown, and where."""

import io

from artifact_folder import data, write
from rich.console import Console

from fourbit_onnx.runtime.progress import Display
from fourbit_onnx.runtime.trainer import Trainer


def shown(show, terminal):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120, color_system=None)
    with Display(show, epochs=2, total=4, console=console) as display:
        for step in range(1, 3):
            display.step(0, step, {"loss": 1.25, "accuracy": 0.5}, 321.4)
        display.epoch(0, {"epoch": 0.0, "loss": 1.25, "skipped": 0.0, "eval_loss": 1.5})
    return text.getvalue()


def test_bar_on_a_terminal():
    for show in (None, True):
        text = shown(show, True)
        assert "epoch 1/2" in text
        assert "2/4" in text
        assert "loss 1.25 accuracy 0.5 321/s" in text
        assert "epoch 1/2 loss 1.25 eval_loss 1.5\n" in text


def test_quiet_where_there_is_none():
    assert shown(None, False) == ""


def test_lines_where_there_is_none_but_asked_for():
    assert shown(True, False) == "epoch 1/2 loss 1.25 eval_loss 1.5\n"


def test_off():
    assert shown(False, True) == shown(False, False) == ""


def test_fit_writes_to_stderr_only(tmp_path, capfd):
    trainer = Trainer(write(tmp_path / "out"), threads=1, native=False)
    trainer.fit(data().arrays, epochs=1, batch_size=25, learning_rate=0.1, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("epoch 1/1 loss ")
    assert err.count("\n") == 1
