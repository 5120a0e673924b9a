"""``fourbit train``."""

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.cli import options, output
from fourbit_onnx.cli.main import INTERRUPTED
from fourbit_onnx.errors import ArtifactError

if TYPE_CHECKING:
    from fourbit_onnx.runtime.history import History
    from fourbit_onnx.runtime.trainer import Trainer

EPOCHS, BATCH_SIZE, SEED = 10, 64, 0
_SECONDS = "seconds.json"  # in the folder, beside the checkpoint
RATES = {"sgd": 0.1, "adamw": 0.001}


@click.command()
@click.argument("folder", metavar="DIR", type=options.FOLDER)
@click.option("--data", required=True, help=options.DATA_HELP)
@click.option(
    "--eval", "evaluation", help="Data to evaluate on after every epoch; of data with a test part, that."
)
@click.option("--epochs", type=click.IntRange(min=1), help=f"Of the whole run.  [default: {EPOCHS}]")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help=f"Samples in a step.  [default: {BATCH_SIZE}, or what the model insists on]",
)
@click.option("--lr", type=float, help="Highest learning rate.  [default: 0.1; AdamW 0.001]")
@click.option(
    "--schedule",
    type=click.Choice(["constant", "cosine", "step"]),
    help="The learning rate over the run.  [default: cosine]",
)
@click.option(
    "--warmup", type=click.IntRange(min=0), help="Steps in which the learning rate rises.  [default: 0]"
)
@click.option(
    "--seed", type=click.IntRange(min=0), help=f"Seed of the order of the samples.  [default: {SEED}]"
)
@options.key_option
@options.threads_option
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the checkpoint, with the run's own settings, but for --epochs, --lr, --schedule and "
    "--warmup where they are given.",
)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@output.json_option
def command(
    folder: Path,
    data: str,
    evaluation: str | None,
    keys: list[tuple[str, str]],
    threads: int | None,
    resume: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train the model of the artifact folder DIR.

    The checkpoint is saved after every epoch. Ctrl-C finishes the step, saves, and exits with 130; --resume
    then goes on, and ends with the same bits as a run without a break.

    \b
    Examples:
      fourbit train out --data digits --eval digits --epochs 10
      fourbit train out --data train.npz --eval test.npz --lr 0.05 --warmup 100
      fourbit train out --data train.npz --eval test.npz --resume
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx.data import named
    from fourbit_onnx.runtime.trainer import Trainer

    trainer = Trainer(folder, threads=threads)
    names, specs = list(trainer.specs), trainer.specs
    train = named.find(data, names, keys=dict(keys), split="train", specs=specs)
    held_out = None
    if evaluation is not None:
        named.check_together(data, evaluation)
        held_out = named.find(evaluation, names, keys=dict(keys), split="test", specs=specs)
    history = trainer.fit(
        train,
        evaluation=held_out,
        resume=resume,
        progress=not quiet,
        **_settings(trainer, resume, settings),
    )
    seconds = _of_the_run(folder, history)
    if as_json:
        output.print_json(_summary(folder, history, seconds))
    elif not history.interrupted:
        _print(folder, history, seconds, resume)
    if history.interrupted:
        click.echo(
            f"Stopped after step {history.step}, and saved. Go on with the same command and --resume.",
            err=True,
        )
        raise SystemExit(INTERRUPTED)


def _of_the_run(folder: Path, history: "History") -> float | None:
    """Seconds of the whole run; None if a part of it left none, because it was killed or run from Python.

    They are no part of the checkpoint, which is the same for every run of the same seed.
    """
    path, before = folder / _SECONDS, 0.0
    if began := history.step - len(history.losses):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            before = float(kept["seconds"]) if kept["step"] == began else math.nan
        except (OSError, ValueError, TypeError, KeyError):
            before = math.nan
    seconds = before + history.seconds
    if not math.isfinite(seconds):
        return None
    with contextlib.suppress(ArtifactError):  # a full disk; the checkpoint is written
        whole_file.write(path, json.dumps({"step": history.step, "seconds": seconds}) + "\n")
    return seconds


def _settings(trainer: "Trainer", resume: bool, given: dict[str, Any]) -> dict[str, Any]:
    """What was given; else, when resuming, what the run began with; else the default."""
    from fourbit_onnx.runtime import schedules
    from fourbit_onnx.runtime.data_specs import fixed_batch

    progress = trainer.state.progress
    before = progress.settings if resume else {}
    defaults = {
        "epochs": before.get("epochs", EPOCHS),
        "batch_size": before.get("batch_size", None if fixed_batch(trainer.specs) else BATCH_SIZE),
        "lr": before.get("learning_rate", RATES[trainer.manifest.optimizer]),
        "seed": progress.seed if before else SEED,
    }
    chosen = {name: defaults[name] if given[name] is None else given[name] for name in defaults}
    schedule = schedules.restored(before.get("schedule", ""))
    if schedule is None or given["schedule"] is not None or given["warmup"] is not None:
        schedule = schedules.named(given["schedule"] or "cosine", given["warmup"] or 0)
    return {"learning_rate": chosen.pop("lr"), "schedule": schedule, **chosen}


def _summary(folder: Path, history: "History", seconds: float | None) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "epochs": len(history.epochs),
        "steps": history.step,
        "seconds": history.seconds,
        "steps_of_this_part": len(history.losses),
        "seconds_of_the_run": seconds,
        "interrupted": history.interrupted,
        "last": history.epochs[-1] if history.epochs else {},
        "best": history.best,
        "history": history.epochs,
    }


def _print(folder: Path, history: "History", seconds: float | None, resumed: bool) -> None:
    last = history.epochs[-1] if history.epochs else {}
    shown = {
        name if name.startswith("eval_") else f"training {name}": value
        for name, value in last.items()
        if name.removeprefix("eval_") in ("loss", "accuracy")
    }
    reached = f": {output.numbers(shown)}" if shown else ""
    if not history.losses:
        click.echo("Nothing to do: all epochs are done; more with --epochs.", err=True)
    elif resumed:
        click.echo(f"this part: {output.counted(len(history.losses), 'step')}, {history.seconds:.1f} s")
    epochs, steps = output.counted(len(history.epochs), "epoch"), output.counted(history.step, "step")
    time = "" if seconds is None else f", {seconds:.1f} s"
    click.echo(f"{epochs}, {steps}{time}{' in all' * resumed}{reached}")
    click.echo(f"Next: fourbit export {folder} -o model.onnx")
