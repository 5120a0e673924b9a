"""Contestants in processes of their own take turns: A B C, C B A, A B C, ..."""

import contextlib
import dataclasses
import json
import math
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from fourbit_onnx.errors import TrainingError

REST = 0.02  # seconds between two turns: thread pools spin for a while before they sleep
MOST_EXTRA = 30  # warm-up rounds more while a contestant skips steps to find its loss scale


@dataclasses.dataclass
class Outcome:
    """What one contestant did.

    Attributes:
        seconds: Of each timed step; entry i of all contestants is of the same round.
        losses: Of every step, warm-up included.
        before: Resident bytes of the process before there was a graph; None where the system does not tell.
        peak: Most resident bytes of the process.
    """

    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)
    before: int | None = None
    peak: int | None = None


def contest(
    commands: Mapping[str, Sequence[str]],
    *,
    rounds: int,
    warmup: int,
    after_round: Callable[[int], None] = lambda index: None,
    check_first: Callable[[Mapping[str, float]], None] = lambda losses: None,
) -> dict[str, Outcome]:
    """Run every contestant ``warmup`` + ``rounds`` times in turn, the direction changing with every round.

    Args:
        commands: Name to the command line of a process that speaks as bench/child.py does.
        rounds: Timed rounds.
        warmup: Rounds before them, not timed, but the first loss comes from there; at least 1.
        after_round: Called with the number of rounds that are done.
        check_first: Called with the losses of the first round; may raise.

    Raises:
        TrainingError: A contestant refused, died, or its loss is not finite.
    """
    found = {name: Outcome() for name in commands}
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(_started(name, line)) for name, line in commands.items()}
        for name, process in processes.items():
            found[name].before = _heard(name, process, "ready")["before"]
        done = skips = 0
        while done < warmup + rounds:
            turns = list(processes) if done % 2 == 0 else list(reversed(processes))
            answers = {name: _asked(name, processes[name]) for name in turns}
            for name, answer in answers.items():
                found[name].losses.append(answer["loss"])
            if len(next(iter(found.values())).losses) == 1:
                check_first({name: answers[name]["loss"] for name in processes})
            if any(answer["skipped"] for answer in answers.values()):
                skips += 1
                if skips > MOST_EXTRA:
                    raise TrainingError(
                        f"steps were skipped {skips} times, for gradients that are not finite"
                    )
                continue
            if done >= warmup:
                for name, answer in answers.items():
                    found[name].seconds.append(answer["seconds"])
            done += 1
            after_round(done)
        for name, process in processes.items():
            _tell(process, "end")
            found[name].peak = _heard(name, process, "end")["peak"]
    return found


@contextlib.contextmanager
def _started(name: str, line: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        yield process
        _end(process)
        if process.wait(timeout=60):
            raise TrainingError(f"the process of {name} ended with code {process.returncode}")
    finally:
        _end(process)
        process.kill()
        process.wait()
        _pipe(process.stdout).close()


def _end(process: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(BrokenPipeError):
        _pipe(process.stdin).close()


def _asked(name: str, process: "subprocess.Popen[str]") -> Mapping[str, Any]:
    """One step, finite."""
    time.sleep(REST)
    _tell(process, "step")
    answer = _heard(name, process, "step")
    if not math.isfinite(answer["loss"]):
        raise TrainingError(f"{name}: the loss is {answer['loss']}; times of such a step mean nothing")
    return answer


def _tell(process: "subprocess.Popen[str]", word: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # what it said last explains it
        _pipe(process.stdin).write(word + "\n")
        _pipe(process.stdin).flush()


def _heard(name: str, process: "subprocess.Popen[str]", event: str) -> Mapping[str, Any]:
    line = _pipe(process.stdout).readline()
    if not line:
        raise TrainingError(f"the process of {name} died with code {process.wait()}; its stderr says why")
    answer: dict[str, Any] = json.loads(line)
    if answer["event"] == "refused":
        raise TrainingError(f"{name}: {answer['text']}")
    if answer["event"] != event:
        raise TrainingError(f"the process of {name} answered {answer['event']!r} instead of {event!r}")
    return answer


def _pipe(stream: "IO[str] | None") -> "IO[str]":
    assert stream is not None
    return stream
