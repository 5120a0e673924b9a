"""``check``: recipes × seeds, in parallel processes, until all is done or time is up."""

import importlib.util
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fourbit_onnx.errors import FourbitError, RecipeError, not_installed
from fourbit_onnx.harness import budget, failure, results, site_study, statistics
from fourbit_onnx.harness import report as page
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.harness.folder import Folder, described, plain, write_json
from fourbit_onnx.harness.lineup import lineup, resolved
from fourbit_onnx.harness.workers import Event, Job, Workers
from fourbit_onnx.recipes import table, toml
from fourbit_onnx.recipes.recipe import Recipe
from fourbit_onnx.runtime.interrupt import Interrupt
from fourbit_onnx.runtime.session import available_processors

OBSERVE = ("first", "all", "none")
PATIENCE = 120.0  # seconds that a worker has to save after Ctrl-C

_log = logging.getLogger(__name__)


class Display(Protocol):
    """Shows a check; all calls come from one thread."""

    def begin(self, total: int, done: int, epochs: int) -> None:
        """So many runs in all, so many of them finished earlier."""

    def started(self, job: Job) -> None:
        """A run began."""

    def moved(self, job: Job, epoch: int, share: float) -> None:
        """A run is in ``epoch`` (from 0), and ``share`` of it is done."""

    def ended(self, job: Job, run: Mapping[str, Any]) -> None:
        """A run ended; its result file."""

    def studied(self, done: int, total: int) -> None:
        """So many of the sites were tried one by one."""

    def remaining(self, seconds: float | None) -> None:
        """What is left."""


class Check:
    """One call of ``check``.

    Args:
        experiment: Task, data, model, settings.
        recipes: What `table.find` takes, ``auto``, or recipes; the baseline joins them if it is not there.
        without: Techniques that the recipes are tried without, too.
        seeds: How many, from `Experiment.first_seed` on.
        folder: Where all goes, and where an earlier call of the same settings is continued.
        budget: Seconds of wall time; None: no limit.
        jobs: Processes; None: one for every processor that may be used.
        observe: Which seeds' quantisers are looked at: ``first``, ``all``, ``none``.
        sensitivity: Whether to try the sites one by one at the end, with the first 4-bit recipe.
        force: Replace a check of other settings.
        command: What was asked for, for the report.
        display: Shows the progress.
    """

    def __init__(
        self,
        experiment: Experiment,
        recipes: Sequence[str | Recipe],
        seeds: int,
        folder: Path,
        *,
        without: Sequence[str] = (),
        budget: float | None = None,
        jobs: int | None = None,
        observe: str = "first",
        sensitivity: bool = False,
        force: bool = False,
        command: str = "",
        display: Display | None = None,
    ) -> None:
        _require()
        self._experiment, self._budget = experiment, budget
        self._seeds = range(experiment.first_seed, experiment.first_seed + seeds)
        self._jobs = jobs or available_processors()
        self._study = sensitivity
        self._observe, self._command, self._display = observe, command, display
        if isinstance(recipes, (str, Recipe)):
            raise RecipeError("recipes is a list, such as ['ibm2020', 'luq'], not one recipe")
        named, self._auto = resolved(recipes, lambda: experiment.model(experiment.first_seed))
        found = lineup(named, without)
        self._recipes = {
            name: given if isinstance(given, Recipe) else table.find(given) for name, given in found.items()
        }
        self._sources = {name: recipe.source for name, recipe in self._recipes.items()}
        self._folder, self._force = Folder(folder.absolute()), force
        self._settings: dict[str, dict[str, Any]] = {
            name: {"find": given, "content": described(self._recipes[name])}
            if isinstance(given, str)
            else {
                "find": str(self._folder.recipe(name)),
                "content": described(given),
                "toml": toml.write(given),
            }
            for name, given in found.items()
        }
        self._digests = experiment.digests()
        self._workers = Workers(self._folder)
        self._runs: dict[Job, dict[str, Any]] = {}
        self._waiting: list[Job] = []
        self._began: dict[Job, float] = {}
        self._share: dict[Job, float] = {}
        self._resumed: dict[Job, float] = {}  # the share that an earlier call had done
        self._took: dict[Job, float] = {}  # wall time of runs that ended in this call, from their beginning
        self._first = 0  # the first seed that is not complete
        self._refusal: FourbitError | None = None
        self._interrupt = Interrupt()

    def run(self) -> dict[str, Any]:
        """Do all runs that are not done, write the report, and return it.

        Raises:
            ArtifactError: The folder holds something else, another check runs in it, or the machine will not
                do (a full disk): what is saved is kept.
            FourbitError: Model, recipe or data will not do.
            KeyboardInterrupt: Ctrl-C; what was under way is saved, the same call goes on with it.
        """
        begun = time.monotonic()
        try:
            with self._folder.opened(self._experiment, self._digests, self._settings, force=self._force):
                self._all_runs(begun)
                self._folder.tidy()
                report = self._report()
                found = self._sensitivity()
                return report if found is None else self._report(found)
        except OSError as error:
            raise failure.of_the_machine(error, self._folder.path) from error

    def _sensitivity(self) -> dict[str, Any] | None:
        if not self._study:
            return None
        recipe = site_study.four_bit(self._folder, list(self._sources))
        if recipe is None:
            _log.warning("no sensitivity: no recipe of 4 bits has a trained model of the first seed")
            return None

        def progress(done: int, total: int) -> None:
            if self._display is not None:
                self._display.studied(done, total)

        try:
            return site_study.sensitivity_of(self._folder, recipe, progress)
        except FourbitError as error:
            _log.warning("no sensitivity: %s", error)
            return None

    def _all_runs(self, begun: float) -> None:
        for job in [(name, seed) for seed in self._seeds for name in self._sources]:
            finished = self._folder.finished(*job)
            if finished is None:
                self._waiting.append(job)
            else:
                self._runs[job] = finished
        self._first = self._waiting[0][1] if self._waiting else 0
        if self._waiting:
            for warning in self._experiment.warnings(self._recipes.values()):
                _log.warning(warning)
        if self._display is not None:
            total = len(self._runs) + len(self._waiting)
            self._display.begin(total, len(self._runs), self._experiment.task.epochs)
        try:
            with self._interrupt:
                self._loop(begun)
        finally:
            self._stop()
        if self._interrupt.asked:
            raise KeyboardInterrupt
        if self._refusal is not None:
            raise self._refusal

    def _loop(self, begun: float) -> None:
        while (self._workers or self._waiting) and not self._interrupt.asked:
            while self._waiting and len(self._workers) < self._jobs and not self._refusal:
                job = self._waiting[0]
                if self._budget is not None and not self._fits(job, time.monotonic() - begun):
                    break
                self._start(self._waiting.pop(0))
            if not self._workers:  # time is up, or it was refused
                return
            for event in self._workers.events():
                self._hear(event)
            self._tell_remaining()

    def _start(self, job: Job) -> None:
        watched = self._observe == "all" or (self._observe == "first" and job[1] == self._seeds[0])
        self._began[job], self._share[job] = time.monotonic(), 0.0
        self._workers.start(job, watched)
        if self._display is not None:
            self._display.started(job)

    def _hear(self, event: Event) -> None:
        job = event.job
        match event.kind:
            case "step":
                self._share[job] = event.fields["share"]
                self._resumed.setdefault(job, self._share[job])
                self._moved(job, event.fields["epoch"])
            case "epoch":
                self._share[job] = (event.fields["epoch"] + 1) / self._experiment.task.epochs
                self._moved(job, event.fields["epoch"])
            case "warning":
                _log.warning("%s, seed %d: %s", *job, event.fields["text"])
            case "refused":
                self._refusal = self._refusal or failure.raised(job[0], event.fields)
                self._workers.stop()
            case "done" | "died" | "interrupted":
                if self._refusal is None or event.kind == "done":
                    self._end(job, event)

    def _end(self, job: Job, event: Event) -> None:
        run = self._folder.finished(*job) if event.kind == "done" else None
        if run is None:  # not written down: the next call tries it again
            run = self._died(job, event.fields.get("code"))
        self._runs[job] = run
        self._took[job] = max(time.monotonic() - self._began[job], run["seconds"])  # of earlier calls, too
        if self._display is not None:
            self._display.ended(job, run)
        if self._waiting and all((name, job[1]) in self._runs for name in self._sources):
            self._report()  # of the seeds so far

    def _died(self, job: Job, code: int | None) -> dict[str, Any]:
        log = self._folder.log(*job)
        how = f"ended with exit code {code}"
        if code is None:
            how = "was interrupted"
        elif code < 0:
            memory = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
            how = f"ended with signal {-code}{memory}"
        return {
            "recipe": job[0],
            "seed": job[1],
            "metric": None,
            "epochs": [],
            "seconds": time.monotonic() - self._began[job],
            "observations": [],
            "error": f"the process of the run {how} (see {log}); the same command tries it again",
        }

    def _moved(self, job: Job, epoch: int) -> None:
        if self._display is not None:
            self._display.moved(job, epoch, self._share[job])

    def _lengths(self) -> dict[str, float] | None:
        done: dict[str, list[float]] = {}
        well = {job[0] for job, run in self._runs.items() if run["error"] is None}
        for job, run in self._runs.items():
            if run["error"] is None or job[0] not in well:  # a run that failed ended early
                done.setdefault(job[0], []).append(self._took.get(job, run["seconds"]))
        running: dict[str, list[tuple[float, float]]] = {}
        for job in self._under_way():
            share = self._share[job] - self._resumed.get(job, 0.0)
            running.setdefault(job[0], []).append((time.monotonic() - self._began[job], share))
        return budget.estimate(list(self._sources), done, running)

    def _under_way(self) -> list[Job]:
        return [job for job in self._began if job not in self._runs]

    def _left(self, jobs: Sequence[Job]) -> float | None:
        """Seconds until these, and those under way, are done."""
        lengths = self._lengths()
        if lengths is None:
            return None
        busy = [max(0.0, lengths[job[0]] * (1 - self._share[job])) for job in self._under_way()]
        return budget.end([lengths[recipe] for recipe, _ in jobs], busy, self._jobs)

    def _fits(self, job: Job, elapsed: float) -> bool:
        """Whether the seed of ``job`` was begun, or all its runs can end in time; the first always is."""
        seed = job[1]
        if seed == self._first or any(other[1] == seed for other in self._began):
            return True
        left = self._left([other for other in self._waiting if other[1] <= seed])
        return left is not None and self._budget is not None and elapsed + left <= self._budget

    def _tell_remaining(self) -> None:
        if self._display is not None:
            self._display.remaining(self._left(self._waiting))

    def _stop(self) -> None:
        """Let all that are under way save; a second Ctrl-C does not wait."""
        self._workers.stop()
        until = time.monotonic() + PATIENCE
        while self._workers and time.monotonic() < until:
            for _ in self._workers.events():
                pass
        self._workers.kill()

    def _report(self, sensitivity: Mapping[str, Any] | None = None) -> dict[str, Any]:
        runs = sorted(
            self._runs.values(), key=lambda run: (run["seed"], list(self._sources).index(run["recipe"]))
        )
        report: dict[str, Any] = plain(
            results.report(
                self._experiment,
                runs,
                self._sources,
                seeds=self._seeds,
                command=self._command,
                digests=self._digests,
                auto=self._auto,
                sensitivity=sensitivity,
            )
        )
        write_json(self._folder.path / "report.json", report)
        page.write(report, self._folder.path / "report.html")
        return report


def _require() -> None:
    """What would be missed at the end is refused before hours of training."""
    statistics.require()
    if importlib.util.find_spec("jinja2") is None:
        raise FourbitError(not_installed("jinja2", "check"))
