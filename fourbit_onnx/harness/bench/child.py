"""The process of one contestant: ``python -m fourbit_onnx.harness.bench.child FOLDER BATCH THREADS``.

Reads lines from stdin and answers each with a line of JSON on stdout, so that several contestants can take
turns; ends when stdin does. `serve` is the same for other contestants (benchmarks/).

=============  ====================================================================================
at the start   ``{"event": "ready", "before"}``: resident bytes before there was a graph, or null
``step``       ``{"event": "step", "seconds", "loss", "skipped"}``
``end``        ``{"event": "end", "peak"}``: most resident bytes, or null
any time       ``{"event": "refused", "text"}``, and the process ends
=============  ====================================================================================
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fourbit_onnx.errors import FourbitError
from fourbit_onnx.harness.bench import memory
from fourbit_onnx.runtime.engine import Engine

RATE = 0.01  # small: the same batch over and over must not diverge
Step = Callable[[], tuple[float, bool]]  # its loss, and whether it was skipped


def serve(prepare: Callable[[], Step]) -> None:
    """Prepare a contestant and run its steps as they are asked for.

    Args:
        prepare: Gives the function that runs one step; what it takes is the memory of the contestant.
    """
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing else may write between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes our stdin
    try:
        before = memory.resident()
        step = prepare()
        _send(stream, "ready", before=before)
        for line in _lines():
            if line == "end":
                _send(stream, "end", peak=memory.peak())
                continue
            began = time.perf_counter()
            loss, skipped = step()
            _send(stream, "step", seconds=time.perf_counter() - began, loss=loss, skipped=skipped)
    except FourbitError as error:
        _send(stream, "refused", text=str(error))


def _lines() -> Iterator[str]:
    while line := sys.stdin.readline():
        yield line.strip()


def _send(stream: TextIO, event: str, **fields: Any) -> None:
    try:
        stream.write(json.dumps({"event": event, **fields}) + "\n")
        stream.flush()
    except BrokenPipeError:  # the parent is gone; stdin says so, too
        pass


def _trainer(folder: Path, batch_file: Path, threads: int) -> Step:
    """The step of an artifact folder: forward, backward and update, as the trainer runs it."""
    engine = Engine(folder, threads=threads, native=True)
    with np.load(batch_file) as arrays:
        batch = dict(arrays)
    engine.calibrate([batch])

    def step() -> tuple[float, bool]:
        engine.now, result = engine.advance(batch, RATE)
        return result.numbers["loss"], result.skipped

    return step


if __name__ == "__main__":
    place, data, count = sys.argv[1:]
    serve(lambda: _trainer(Path(place), Path(data), int(count)))
