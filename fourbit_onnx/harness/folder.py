"""The folder of a check: its settings, one file a finished run, and the runs under way.

======================================  ================================================================
``check.json``                          settings; what makes a folder one of ours
``runs/RECIPE/SEED.json``               a finished run
``work/RECIPE/SEED/``                   a run under way: artifact folder with checkpoint, notes
``work/RECIPE/SEED.log``                what its process wrote to stderr
``trained/RECIPE/``                     the artifact folder of the first seed, trained
``recipes/RECIPE.toml``                 a ``Recipe(...)`` that came from no file
``sensitivity/RECIPE.json``             what its sites lose by 4 bits, if that was asked for
``report.json``, ``report.html``        the result
======================================  ================================================================
"""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.errors import ArtifactError, RecipeError
from fourbit_onnx.harness.experiment import Experiment
from fourbit_onnx.harness.failure import REFUSALS
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.recipe import Recipe

VERSION = 3  # 3: batch normalisation of our own, other bits
MARK = "check.json"
ARTIFACTS = "artifacts"  # in the folder of a run under way
MADE_BY = "fourbit check"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~+-]*")


class Folder:
    """Reads and writes the files of a check.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = -1  # the file descriptor that holds the lock, for worker processes to inherit

    def run(self, recipe: str, seed: int) -> Path:
        """The file of a finished run."""
        return self.path / "runs" / recipe / f"{seed}.json"

    def work(self, recipe: str, seed: int) -> Path:
        """The folder of a run under way."""
        return self.path / "work" / recipe / str(seed)

    def log(self, recipe: str, seed: int) -> Path:
        """What the process of a run wrote to stderr."""
        return self.path / "work" / recipe / f"{seed}.log"

    def trained(self, recipe: str) -> Path:
        """The artifact folder of the run with the first seed, when it is finished."""
        return self.path / "trained" / recipe

    def tidy(self) -> None:
        """Remove logs that say nothing, and what is left in the folders of runs that are finished.

        A process that was killed between writing its result and moving its model has left the model there.
        """
        first = self.experiment().first_seed
        for place in self.path.glob("work/*/*"):
            recipe, seed = place.parent.name, place.name
            if not (place.is_dir() and seed.isdigit() and self.run(recipe, int(seed)).is_file()):
                continue
            kept, artifacts = self.trained(recipe), place / ARTIFACTS
            left = int(seed) == first and artifacts.is_dir() and not kept.exists()
            if left and read_json(self.run(recipe, first)).get("error", "") is None:
                kept.parent.mkdir(exist_ok=True)
                artifacts.rename(kept)
            shutil.rmtree(place, ignore_errors=True)
        for log in self.path.glob("work/*/*.log"):
            if not log.stat().st_size:
                log.unlink()
        for place in [*self.path.glob("work/*"), self.path / "work"]:
            with contextlib.suppress(OSError):  # not empty
                place.rmdir()

    def settings(self) -> dict[str, Any]:
        """``check.json``.

        Raises:
            ArtifactError: It is not there, or damaged.
        """
        return read_json(self.path / MARK)

    def recipe(self, name: str) -> Path:
        """Where the TOML file is of a recipe that came from no file and no table."""
        return self.path / "recipes" / f"{name}.toml"

    def experiment(self) -> Experiment:
        """What the runs have in common.

        Raises:
            ArtifactError: The settings are damaged.
        """
        return Experiment.from_json(self.settings()["experiment"])

    @contextlib.contextmanager
    def opened(
        self, experiment: Experiment, digests: Mapping[str, str], recipes: Mapping[str, Any], *, force: bool
    ) -> Iterator[None]:
        """Begin in an empty folder, or go on in one of the same settings; recipes may be added.

        Until it ends, and the processes that inherited `lock` too, no other check can write here. A check
        that began here, in this call, and is refused (`REFUSALS`) leaves nothing, unless a run was finished:
        the corrected command has other settings, and would be refused for the folder. After any other error
        all stays: the same command is to go on.

        Args:
            experiment: What the runs have in common.
            digests: `Experiment.digests`.
            recipes: Name to ``{"find": what table.find takes, "content": the recipe as JSON values}``; and
                ``"toml"``, the text of its file, if that is to be written here (`recipe`).
            force: Replace a check of other settings.

        Raises:
            ArtifactError: The folder holds something else, or cannot be written.
            RecipeError: A recipe's name cannot be a folder's.
        """
        from fourbit_onnx import __version__

        for name in recipes:
            if not _NAME.fullmatch(name):
                raise RecipeError(
                    f"the recipe's name {name!r} is no folder name; use letters, digits, '.', '-' and '_'"
                )
        settings = {
            "made_by": MADE_BY,
            "version": VERSION,
            "package": __version__,
            "experiment": _json(experiment.to_json()),
            "digests": dict(digests),
            "recipes": _json(
                {name: {key: one[key] for key in ("find", "content")} for name, one in recipes.items()}
            ),
        }
        made = whole_file.make_folder(self.path)
        self.lock = _locked(self.path)
        begun = not (self.path / MARK).is_file()  # not before: another check may have begun, and ended
        try:
            self._settle(settings, force)
            for name, one in recipes.items():
                if "toml" in one:
                    self.recipe(name).parent.mkdir(exist_ok=True)
                    self.recipe(name).write_text(one["toml"], encoding="utf-8")
            yield
        except BaseException as error:
            if begun and isinstance(error, REFUSALS) and not any(self.path.glob("runs/*/*.json")):
                self._clear()
                (self.path / MARK).unlink(missing_ok=True)
            if made:
                with contextlib.suppress(OSError):  # not empty
                    self.path.rmdir()
            raise
        finally:
            if self.lock >= 0:
                os.close(self.lock)
            self.lock = -1

    def _settle(self, settings: dict[str, Any], force: bool) -> None:
        if not (self.path / MARK).is_file() and any(self.path.iterdir()):
            raise ArtifactError(
                f"{self.path} exists and is not a check's; choose another folder as the output"
            )
        if (self.path / MARK).is_file():
            if self.settings().get("made_by") != MADE_BY:
                raise ArtifactError(f"{self.path} is not a check's; choose another folder as the output")
            if force:
                self._clear()
            else:
                settings["recipes"] = self._same(settings)
        write_json(self.path / MARK, settings)

    def _clear(self) -> None:
        for name in ("runs", "work", "trained", "sensitivity", "recipes"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in ("report.json", "report.html"):
            (self.path / name).unlink(missing_ok=True)

    def _same(self, new: dict[str, Any]) -> dict[str, Any]:
        """The recipes of both, or a refusal."""
        old = self.settings()
        remedy = "choose another folder as the output, or replace it with --force (force=True)"
        for name in ("version", "package"):
            if old.get(name) != new[name]:
                raise ArtifactError(
                    f"{self.path} holds a check of {name} {old.get(name)}, this is {new[name]}; {remedy}"
                )
        experiment = Experiment.from_json(old.get("experiment", {})).to_json()  # with what is newer
        before = {**flat(_json(experiment)), **old.get("digests", {})}
        now = {**flat(new["experiment"]), **new["digests"]}
        for name, value in now.items():
            if before.get(name) != value:
                was = f"other {name}" if name in new["digests"] else f"{name} {before.get(name)}"
                here = "" if name in new["digests"] else f", this one has {value}"
                raise ArtifactError(f"{self.path} holds a check with {was}{here}; {remedy}")
        recipes: dict[str, Any] = dict(old.get("recipes", {}))
        for name, recipe in new["recipes"].items():
            if name in recipes and recipes[name].get("content") != recipe["content"]:
                rename = "" if name in table.RECIPES else "rename it, or "
                raise ArtifactError(
                    f"{self.path} holds runs of another recipe called {name!r}; {rename}{remedy}"
                )
        return {**recipes, **new["recipes"]}

    def finished(self, recipe: str, seed: int) -> dict[str, Any] | None:
        """A finished run; None if it is not.

        Raises:
            ArtifactError: Its file is damaged.
        """
        path = self.run(recipe, seed)
        if not path.exists():
            return None
        found = read_json(path)
        whole = {"metric", "error", "epochs"} <= set(found)
        if not whole or (found.get("recipe"), found.get("seed")) != (recipe, seed):
            raise ArtifactError(f"{path} is damaged: it is no run of {recipe!r}; delete it and run again")
        return found


def _locked(path: Path) -> int:
    """A file descriptor that holds the lock of the folder; -1 where there are no such locks."""
    try:
        import fcntl
    except ImportError:
        return -1  # Windows
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise ArtifactError(
            f"another check runs in {path}; wait for it, or choose another folder as the output"
        ) from error
    return lock


def _json(value: Any) -> Any:
    """The value as it comes back from a file: tuples are lists."""
    return json.loads(json.dumps(value))


def flat(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by name, those of the task among them."""
    return {**{k: v for k, v in experiment.items() if k != "task"}, **experiment.get("task", {})}


def described(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON values: all that decides a number.

    Defaults, too: of a recipe whose default has changed since, the folder's runs are another recipe's.
    """
    return {name: _json(value) for name, value in dataclasses.asdict(recipe).items() if name != "source"}


def plain(value: Any) -> Any:
    """The value for JSON, which lacks NaN and infinity: they become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ArtifactError: It cannot be read, or holds no object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run the check again") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} is damaged (no object); delete it and run the check again")
    return found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write all of the file or nothing.

    Raises:
        ArtifactError: It cannot be written; what was there is untouched.
    """
    whole_file.write(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
