"""Several training runs as a block of bars on stderr: one a run, all visible from the start."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fourbit_onnx.runtime.live import Live
from fourbit_onnx.runtime.progress import Display


class Bars(Live):
    """A bar for each name; on something that is no terminal, a line for each epoch instead.

    Args:
        names: What the runs are called.
        epochs: Epochs of each.
        steps: Steps of each.
        console: Where to; stderr if None.
    """

    def __init__(self, names: Sequence[str], epochs: int, steps: int, console: Console | None = None) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=26),
            TextColumn("{task.fields[numbers]}"),
            console=console,
        )
        width = max(map(len, names))
        self._width, self._epochs = width, epochs
        self._tasks = {
            name: self._progress.add_task(name.ljust(width), total=steps, numbers="waiting") for name in names
        }

    def display(self, name: str) -> Display:
        """What `Trainer.fit` shows the run ``name`` on."""
        return _Bar(self._progress, self._tasks[name], self._console, self._epochs, name.ljust(self._width))


class _Bar(Display):
    def __init__(self, progress: Progress, task: TaskID, console: Console, epochs: int, name: str) -> None:
        super().__init__(False, epochs=epochs, total=None, console=console)
        self._progress, self._id, self._name = progress, task, name
        self._tested, self._began = "", time.perf_counter()

    def __enter__(self) -> "_Bar":
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None  # the bars end together

    def step(self, epoch: int, step: int, means: Mapping[str, float], rate: float) -> None:
        """After a step."""
        self._progress.update(self._id, completed=step, numbers=self._numbers(epoch, means))

    def epoch(self, epoch: int, record: Mapping[str, float]) -> None:
        """After an epoch and its evaluation."""
        self._tested = f"  test {100 * record['eval_accuracy']:.1f} %"
        text = self._numbers(epoch, record)
        self._progress.update(self._id, numbers=text)
        if not self._console.is_terminal:
            self._console.print(f"{self._name}  {text}", highlight=False, soft_wrap=True)

    def _numbers(self, epoch: int, means: Mapping[str, float]) -> str:
        loss = means.get("loss", float("nan"))
        seconds = time.perf_counter() - self._began
        epochs = f"epoch {epoch + 1:{len(str(self._epochs))}}/{self._epochs}"
        return f"{epochs}  loss {loss:.4f}{self._tested}  {seconds:3.0f} s"
