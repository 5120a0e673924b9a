"""Checks in tests: tiny ones, and workers that are functions of this process."""

import dataclasses
import queue

from fourbit_onnx.errors import FourbitError
from fourbit_onnx.harness import failure, run
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.harness.folder import Folder, described
from fourbit_onnx.harness.lineup import lineup
from fourbit_onnx.harness.tasks import TASKS
from fourbit_onnx.harness.workers import Event
from fourbit_onnx.recipes import table
from fourbit_onnx.runtime.progress import Display


def tiny(**changes):
    """The digits with a small MLP, for two epochs."""
    settings = {"model": "mlp", "model_options": {"hidden": (16, 16)}, "epochs": 2, "warmup": 0, **changes}
    return Experiment(dataclasses.replace(TASKS["digits"], **settings))


def opened(path, experiment, recipes=("ibm2020",)):
    """The folder of a check, as `Check` opens it."""
    folder = Folder(path)
    contents = {
        name: {"find": given, "content": described(table.find(given))}
        for name, given in lineup(recipes).items()
    }
    with folder.opened(experiment, experiment.digests(), contents, force=False):
        pass
    return folder


def quiet(steps):
    """No progress."""
    return Display(False, epochs=0, total=steps)


class InProcess:
    """Workers that end before `start` returns. ``deaths``: jobs whose process is killed, each once."""

    deaths = frozenset()

    def __init__(self, folder):
        self.folder, self.waiting, self.started = folder, queue.Queue(), []
        type(self).last = self
        self.deaths = set(type(self).deaths)

    def __len__(self):
        return self.waiting.qsize()

    def start(self, job, observe):
        self.started.append((job, observe))
        if job in self.deaths:
            self.deaths.remove(job)
            self.waiting.put(Event(job, "died", {"code": -9}))
            return
        try:
            run.run(self.folder, *job, observe=False, display=quiet)
            self.waiting.put(Event(job, "done"))
        except (FourbitError, OSError) as error:
            self.waiting.put(Event(job, "refused", failure.told(error, self.folder.path)))

    def events(self):
        if not self.waiting.empty():
            yield self.waiting.get()

    def stop(self):
        pass

    kill = stop


def jobs():
    """What the last check began, in order."""
    return [job for job, _ in InProcess.last.started]
