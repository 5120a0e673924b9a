"""The progress of a measurement on stderr: what is done now, and a bar of the rounds."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fourbit_onnx.harness.bench.bench import Silent


class Rounds(Silent):
    """On a terminal a bar; else, or if not ``shown``, nothing."""

    def __init__(self, shown: bool = True) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=26),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> "Rounds":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)

    def begin(self, total: int) -> None:
        """So many rounds come."""
        self._progress.reset(self._task, total=total)

    def done(self, rounds: int) -> None:
        """So many of them are done."""
        self._progress.update(self._task, completed=rounds)
