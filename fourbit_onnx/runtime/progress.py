"""The progress of a training run on stderr: a bar on a terminal, else one line an epoch."""

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


class Display:
    """Shows a run.

    Args:
        show: True: always; False: never; None: on a terminal.
        epochs: Epochs of the whole run.
        total: Steps of the whole run, if known.
        done: Steps that are done already.
        console: Where to; stderr if None.
    """

    def __init__(
        self,
        show: bool | None,
        *,
        epochs: int,
        total: int | None,
        done: int = 0,
        console: Console | None = None,
    ) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._epochs, self._total, self._done = epochs, total, done
        self._lines = show is True and not self._console.is_terminal
        if show is not False and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),  # all fits 80 columns
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TimeRemainingColumn(),
                console=self._console,
            )

    def __enter__(self) -> "Display":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("train", total=self._total, completed=self._done, numbers="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, epoch: int, step: int, means: Mapping[str, float], rate: float) -> None:
        """After a step: means over the epoch so far, and samples a second."""
        if self._bar is not None:
            self._bar.update(
                self._task,
                description=f"epoch {epoch + 1}/{self._epochs}",
                completed=step,
                numbers=f"{_text(means, 3)} {rate:.0f}/s",
            )

    def epoch(self, epoch: int, record: Mapping[str, float]) -> None:
        """After an epoch and its evaluation: its record stays on the screen."""
        if self._bar is None and not self._lines:
            return
        numbers = {name: number for name, number in record.items() if name != "epoch"}
        line = f"epoch {epoch + 1}/{self._epochs} {_text(numbers)}"
        self._console.print(line, highlight=False, soft_wrap=True)


def _text(numbers: Mapping[str, float], digits: int = 4) -> str:
    shown = {name: number for name, number in numbers.items() if name != "skipped" or number}
    return " ".join(f"{name} {number:.{digits}g}" for name, number in shown.items())
