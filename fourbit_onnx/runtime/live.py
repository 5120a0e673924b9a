"""Bars on a terminal, from the beginning to the end of a ``with``."""

from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress, ProgressColumn

L = TypeVar("L", bound="Live")


class Live:
    """On something that is no terminal there are no bars; a display may print lines there.

    Args:
        columns: Of every bar.
        console: Where to; stderr if None.
        shown: False: no bars on a terminal either.
        settings: For `rich.progress.Progress`.
    """

    def __init__(
        self, *columns: ProgressColumn, console: Console | None = None, shown: bool = True, **settings: Any
    ) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._terminal = self._console.is_terminal
        self._progress = Progress(
            *columns, console=self._console, disable=not (shown and self._terminal), **settings
        )

    def __enter__(self: L) -> L:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
