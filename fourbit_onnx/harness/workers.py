"""Runs in processes of their own."""

import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fourbit_onnx.harness import spawn
from fourbit_onnx.harness.folder import Folder

Job = tuple[str, int]  # recipe, seed
WAIT = 0.5  # seconds between looks at the clock


@dataclass
class Event:
    """What a worker says.

    Attributes:
        job: Recipe and seed.
        kind: As in worker.py; or ``died``: the process ended without a word.
        fields: The rest.
    """

    job: Job
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)


class Workers:
    """Starts processes, hears them, and stops them.

    Args:
        folder: Of the check.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._queue: queue.Queue[Event] = queue.Queue()
        self._processes: dict[Job, subprocess.Popen[bytes]] = {}

    def __len__(self) -> int:
        return len(self._processes)

    def start(self, job: Job, observe: bool) -> None:
        """Begin the run, or go on with it."""
        recipe, seed = job
        log = self._folder.log(recipe, seed)
        log.parent.mkdir(parents=True, exist_ok=True)
        command = spawn.command("fourbit_onnx.harness.worker", str(self._folder.path), recipe, str(seed))
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*command, *(["observe"] if observe else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=[self._folder.lock] if self._folder.lock >= 0 else [],
                start_new_session=True,  # Ctrl-C comes to us alone; we tell it by closing its stdin
            )
        self._processes[job] = process
        threading.Thread(target=self._listen, args=(job, process), daemon=True).start()

    def events(self) -> Iterator[Event]:
        """What is said within the next moment; after the last word of a process it is no longer counted."""
        try:
            event = self._queue.get(timeout=WAIT)
        except queue.Empty:
            return
        if event.kind in ("done", "refused", "interrupted", "died"):
            process = self._processes.pop(event.job)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        yield event

    def stop(self) -> None:
        """Ask all to save and exit; `events` tells when they have."""
        for process in self._processes.values():
            if process.stdin is not None and not process.stdin.closed:
                process.stdin.close()

    def kill(self) -> None:
        """End all at once."""
        for process in self._processes.values():
            process.kill()

    def _listen(self, job: Job, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        last = ""
        with process.stdout as lines:
            for line in lines:
                fields = json.loads(line)
                last = fields.pop("event")
                if last in ("done", "refused", "interrupted"):
                    break
                self._queue.put(Event(job, last, fields))
            else:
                last, fields = "died", {"code": process.wait()}
            for _ in lines:
                pass
        process.wait()
        self._queue.put(Event(job, last, fields))
