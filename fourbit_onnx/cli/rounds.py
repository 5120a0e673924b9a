"""The progress of a measurement on stderr: what is done now, and a bar of the rounds."""

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from fourbit_onnx.harness.bench.bench import Silent
from fourbit_onnx.runtime.live import Live


class Rounds(Live, Silent):
    """On a terminal a bar; else, or if not ``shown``, nothing."""

    def __init__(self, shown: bool = True) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=26),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            shown=shown,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)

    def say(self, text: str) -> None:
        """What is being done now."""
        self._progress.update(self._task, description=text)

    def begin(self, total: int) -> None:
        """So many rounds come."""
        self._progress.reset(self._task, total=total)

    def done(self, rounds: int) -> None:
        """So many of them are done."""
        self._progress.update(self._task, completed=rounds)
