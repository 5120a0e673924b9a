"""The process of one run: ``python -m fourbit_onnx.harness.worker FOLDER RECIPE SEED [observe]``.

It tells what happens as lines of JSON on stdout. When its stdin ends, it saves and exits: so it stops with
its parent, however that ends.

==========================================  ======================================================
``{"event": "step", "epoch", "share"}``     share of the run that is done
``{"event": "epoch", "epoch", "record"}``   an epoch and its evaluation are done
``{"event": "warning", "text"}``            of the library
``{"event": "refused", "error", "text"}``   no run can go on: class and sentence, as in failure.py
``{"event": "interrupted"}``                saved
``{"event": "done"}``                       the run's file is written
==========================================  ======================================================
"""

import _thread
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO

from rich.console import Console

from fourbit_onnx.errors import FourbitError
from fourbit_onnx.harness import failure, run
from fourbit_onnx.harness.folder import Folder
from fourbit_onnx.runtime.progress import Display

SECONDS_BETWEEN_STEPS = 0.25


class _Events(Display):
    """The progress of the run, as events."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(False, epochs=0, total=None, console=Console(file=sys.stderr))
        self._stream, self._steps, self._last = stream, 1, 0.0

    def of(self, steps: int) -> "_Events":
        """Of a run of so many steps."""
        self._steps = steps
        return self

    def __enter__(self) -> "_Events":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def send(self, event: str, **fields: object) -> None:
        """A line; a parent that is gone is noticed by stdin."""
        try:
            self._stream.write(json.dumps({"event": event, **fields}) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            pass

    def step(self, epoch: int, step: int, means: Mapping[str, float], rate: float) -> None:
        """After a step."""
        if time.monotonic() - self._last > SECONDS_BETWEEN_STEPS:
            self._last = time.monotonic()
            self.send("step", epoch=epoch, share=step / self._steps)

    def epoch(self, epoch: int, record: Mapping[str, float]) -> None:
        """After an epoch and its evaluation."""
        self.send("epoch", epoch=epoch, record={k: v if v == v else None for k, v in record.items()})


class _Warnings(logging.Handler):
    def __init__(self, events: _Events) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.send("warning", text=record.getMessage())


def _stop_with_stdin() -> None:
    while os.read(0, 1 << 10):
        pass
    _thread.interrupt_main()  # as Ctrl-C: the trainer saves after the step


def main(folder: Path, recipe: str, seed: int, observe: bool) -> None:
    """Do the run."""
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing else may write between the events
    place = Folder(folder)
    events = _Events(stream)
    logger = logging.getLogger("fourbit_onnx")
    logger.addHandler(_Warnings(events))
    logger.propagate = False
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
    threading.Thread(target=_stop_with_stdin, daemon=True).start()
    try:
        ended = run.run(place, recipe, seed, observe=observe, display=events.of)
        events.send("done" if ended else "interrupted")
    except (FourbitError, OSError) as error:
        if isinstance(error, OSError):  # the log has where it came from
            traceback.print_exc()
        events.send("refused", **failure.told(error, folder))
    except KeyboardInterrupt:
        events.send("interrupted")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "observe" in sys.argv[4:])
