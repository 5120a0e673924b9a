"""The progress of a check on stderr: bars on a terminal, else one line a finished run."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn

from fourbit_onnx.harness.workers import Job
from fourbit_onnx.runtime.live import Live


class Bars(Live):
    """One bar for all runs, one for each run under way.

    Args:
        metric: What the runs are judged by; decides how it is printed.
        console: Where to; stderr if None.
    """

    def __init__(self, metric: str, console: Console | None = None) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}"),
            console=console,
        )
        self._metric = metric
        self._tasks: dict[Job, TaskID] = {}
        self._all = TaskID(0)
        self._total, self._done, self._epochs = 0, 0, 0
        self._left = ""
        self._shares: dict[Job, float] = {}

    def begin(self, total: int, done: int, epochs: int) -> None:
        """So many runs in all, so many of them finished earlier."""
        self._total, self._done, self._epochs = total, done, epochs
        self._all = self._progress.add_task("runs", total=total, completed=done, numbers="")
        if done and not self._terminal:
            self._line(f"{done} of {total} runs were finished earlier")
        self._show()

    def started(self, job: Job) -> None:
        """A run began."""
        name = f"{job[0]}, seed {job[1]}"
        self._shares[job] = 0.0
        self._tasks[job] = self._progress.add_task(name, total=1.0, numbers="starts")

    def moved(self, job: Job, epoch: int, share: float) -> None:
        """A run is in ``epoch`` (from 0), and ``share`` of it is done."""
        self._shares[job] = share
        numbers = f"epoch {min(epoch + 1, self._epochs)}/{self._epochs}"
        self._progress.update(self._tasks[job], completed=share, numbers=numbers)
        self._show()

    def ended(self, job: Job, run: Mapping[str, Any]) -> None:
        """A run ended; its result file."""
        self._done += 1
        self._shares.pop(job, None)
        self._progress.remove_task(self._tasks.pop(job))
        result = number(self._metric, run["metric"]) if run["error"] is None else f"failed: {run['error']}"
        at = f"{self._done:{len(str(self._total))}}/{self._total}"
        self._line(f"{at}  {job[0]}, seed {job[1]}: {result}, {duration(run['seconds'])}")
        self._show()

    def studied(self, done: int, total: int) -> None:
        """So many of the sites were tried one by one."""
        self._left = f"  sensitivity {done}/{total}"
        self._show()

    def remaining(self, seconds: float | None) -> None:
        """What is left."""
        self._left = "" if seconds is None else f"  {duration(seconds)} left"
        self._show()

    def _show(self) -> None:
        completed = self._done + sum(self._shares.values())
        numbers = f"{self._done}/{self._total}{self._left}"
        self._progress.update(self._all, completed=completed, numbers=numbers)

    def _line(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)


@contextlib.contextmanager
def shown(metric: str, show: bool) -> Iterator[Bars | None]:
    """Bars, or nothing."""
    if show:
        with Bars(metric) as bars:
            yield bars
    else:
        yield None


def number(metric: str, value: float) -> str:
    """``98.61 %``, ``2.143 bits``, ``0.0512``."""
    if metric == "accuracy":
        return f"{100 * value:.2f} %"
    return f"{value:.3f} bits" if metric == "bits_per_character" else f"{value:.4g}"


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
