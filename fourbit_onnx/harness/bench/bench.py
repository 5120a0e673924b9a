"""Recipes' training steps beside those of the FP32 and FP16 graphs."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourbit_onnx import api
from fourbit_onnx.errors import TrainingError
from fourbit_onnx.harness import spawn
from fourbit_onnx.harness.bench.contest import Outcome, contest
from fourbit_onnx.harness.bench.machine import machine
from fourbit_onnx.harness.bench.stored_bytes import stored_bytes
from fourbit_onnx.harness.bench.subjects import Subject
from fourbit_onnx.harness.bench.summary import speedup, summary
from fourbit_onnx.recipes import table
from fourbit_onnx.runtime import library
from fourbit_onnx.runtime.engine import Engine
from fourbit_onnx.runtime.session import available_processors

BASELINES = ("fp32", "fp16")
RECOMPUTED = ("cheap", "all")  # what `Settings.recompute` adds, least first
# Of the first losses, as a share of that of the FP32 graph. A sanity check against a broken graph or folder,
# not a bound: none follows from the formats, since what rounding does to the loss of an untrained network
# depends on all its layers. Measured were 0 to 5 % for the named models, up to a fifth for small ones (FP16:
# less than a thousandth); the limits leave room for a user's. Wrong bits are found by tests and by
# `fourbit doctor`, not here.
CLOSE = {"fp16": 0.01}
CLOSE_4_BIT = 0.5


class Silent:
    """Shows nothing; what a display of the progress must have."""

    def say(self, text: str) -> None:
        """What is being done now."""

    def begin(self, total: int) -> None:
        """So many rounds come."""

    def done(self, rounds: int) -> None:
        """So many of them are done."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        recipes: Beside the two baselines; names, or TOML files.
        threads: Of each operator; None: all processors.
        batch_size: None: the subject's.
        rounds: Timed steps of each recipe.
        warmup: Steps before these.
        recompute: Whether every recipe is measured again, converted with each form of ``recompute``; not
            where that changes nothing more, which the result says.
        command: How the measurement is called in the result.
    """

    recipes: Sequence[str]
    threads: int | None = None
    batch_size: int | None = None
    rounds: int = 20
    warmup: int = 3
    recompute: bool = False
    command: str = ""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A subject, converted for every recipe.

    Attributes:
        commands: Name to the command line of its process, as for `contest`.
        rows: Name to the part of its row that is known before anything is timed.
        batch: The file of the batch: arrays by the names of the model's inputs and targets.
        about: What the result says beside its rows.
    """

    commands: dict[str, list[str]]
    rows: dict[str, dict[str, Any]]
    batch: Path
    about: dict[str, Any]


def bench(subject: Subject, settings: Settings, display: Silent | None = None) -> dict[str, Any]:
    """The result as JSON values: a row for each recipe, the baselines first.

    Raises:
        FourbitError: The model cannot be trained, or no data can be made up for it; a loss is not finite,
            or a recipe's first loss is far from the FP32 graph's; the native library is missing.
    """
    shown = display or Silent()
    with tempfile.TemporaryDirectory(prefix="fourbit-bench-") as temporary:
        prepared = prepare(subject, settings, Path(temporary), shown)
        return result(prepared, settings, shown)


def prepare(subject: Subject, settings: Settings, folder: Path, display: Silent) -> Prepared:
    """Convert the subject for every recipe, into ``folder``; draw a batch; count what is stored.

    Raises:
        FourbitError: As `bench`.
    """
    library.require()  # times of function bodies would say nothing
    about: dict[str, Any] = {"command": settings.command, "machine": machine()}
    threads = settings.threads or available_processors()
    model, batch_file = subject.build(), folder / "batch.npz"
    commands: dict[str, list[str]] = {}
    rows: dict[str, dict[str, Any]] = {}
    left_out: list[str] = []
    recomputed = 0
    for name, given, form in _contestants(settings):
        display.say(f"converting for {name}")
        began = time.perf_counter()
        compiled = api.convert(model, folder / name, recipe=given, loss=subject.loss, recompute=form)
        if form != "none" and compiled.manifest.recomputed == recomputed:
            left_out.append(name)
            continue
        recomputed = compiled.manifest.recomputed
        rows[name] = {
            "recipe": name,
            "convert_seconds": time.perf_counter() - began,
            "parameters": sum(compiled.state[key].size for key in compiled.manifest.parameters),
            "four_bit_share": compiled.plan.share,
        }
        del compiled
        engine = Engine(folder / name, threads=threads, native=True)
        batch = subject.batch(engine.specs, settings.batch_size)
        engine.calibrate([batch])
        stored = stored_bytes(folder / name, engine.now.values, batch, threads=threads)
        rows[name]["stored"] = dataclasses.asdict(stored)
        np.savez(batch_file, allow_pickle=False, **batch)
        commands[name] = spawn.command(
            "fourbit_onnx.harness.bench.child", str(folder / name), str(batch_file), str(threads)
        )
    about |= {
        "model": subject.name,
        "options": dict(subject.options),
        "batch_size": len(next(iter(batch.values()))),
        "threads": threads,
        "rounds": settings.rounds,
        "warmup": settings.warmup,
        "nothing_to_recompute": left_out,
    }
    return Prepared(commands, rows, batch_file, about)


def _contestants(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Name, recipe as it was given, and what it recomputes, more from one to the next."""
    for given in dict.fromkeys([*BASELINES, *settings.recipes]):
        name = table.find(given).name
        yield name, given, "none"
        if settings.recompute and name not in BASELINES:
            for form in RECOMPUTED:
                yield f"{name}+recompute-{form}", given, form


def result(prepared: Prepared, settings: Settings, display: Silent) -> dict[str, Any]:
    """Run the contest of what was prepared.

    Raises:
        TrainingError: As `contest`; or a first loss is far from the FP32 graph's.
    """
    display.say("steps")
    display.begin(settings.warmup + settings.rounds)
    outcomes = contest(
        prepared.commands,
        rounds=settings.rounds,
        warmup=settings.warmup,
        after_round=display.done,
        check_first=check_first,
    )
    rows = [{**row, **measured(name, outcomes, BASELINES)} for name, row in prepared.rows.items()]
    return {**prepared.about, "rows": rows}


def measured(name: str, outcomes: Mapping[str, Outcome], baselines: Sequence[str]) -> dict[str, Any]:
    """The part of a row that is measured: times in seconds, memory in bytes."""
    own = outcomes[name]
    return {
        "seconds": dataclasses.asdict(summary(own.seconds)),
        "speedup": {
            other: dataclasses.asdict(speedup(outcomes[other].seconds, own.seconds)) for other in baselines
        },
        "peak_bytes": own.peak,
        "step_bytes": None if own.peak is None or own.before is None else own.peak - own.before,
        "first_loss": own.losses[0],
        "last_loss": own.losses[-1],
        "all_seconds": own.seconds,
    }


def check_first(losses: Mapping[str, float]) -> None:
    """All recipes begin from the same weights and batch.

    Raises:
        TrainingError: A first loss is far from the FP32 graph's: then times mean nothing.
    """
    expected = losses[BASELINES[0]]
    for name, loss in losses.items():
        tolerance = CLOSE.get(name, CLOSE_4_BIT)
        if not math.isclose(loss, expected, rel_tol=tolerance, abs_tol=tolerance):
            raise TrainingError(
                f"{name}: the first loss is {loss:.4g}, that of {BASELINES[0]} {expected:.4g}; a step that "
                "computes something else is not timed: try fourbit doctor"
            )
