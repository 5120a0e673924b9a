"""``fourbit train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fourbit_onnx.cli import options, output
from fourbit_onnx.cli.main import INTERRUPTED

if TYPE_CHECKING:
    from fourbit_onnx.runtime.history import History
    from fourbit_onnx.runtime.trainer import Trainer

EPOCHS, BATCH_SIZE, SEED = 10, 64, 0
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
@click.option("--resume", is_flag=True, help="Go on from the checkpoint, with the run's own settings.")
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
      fourbit train out --data train.npz --resume
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
    if as_json:
        output.print_json(_summary(folder, history))
    else:
        _print(folder, history)
    if history.interrupted:
        click.echo(
            f"Stopped after step {history.step}, and saved. Go on with the same command and --resume.",
            err=True,
        )
        raise SystemExit(INTERRUPTED)


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


def _summary(folder: Path, history: "History") -> dict[str, Any]:
    return {
        "folder": str(folder),
        "epochs": len(history.epochs),
        "steps": history.step,
        "seconds": history.seconds,
        "interrupted": history.interrupted,
        "last": history.epochs[-1] if history.epochs else {},
        "best": history.best,
        "history": history.epochs,
    }


def _print(folder: Path, history: "History") -> None:
    last = history.epochs[-1] if history.epochs else {}
    shown = {
        name if name.startswith("eval_") else f"training {name}": value
        for name, value in last.items()
        if name.removeprefix("eval_") in ("loss", "accuracy")
    }
    reached = f": {output.numbers(shown)}" if shown else ""
    if not history.losses and not history.interrupted:
        click.echo("Nothing to do: all epochs are done; more with --epochs.", err=True)
    epochs, steps = output.counted(len(history.epochs), "epoch"), output.counted(history.step, "step")
    click.echo(f"{epochs}, {steps}, {history.seconds:.1f} s{reached}")
    if not history.interrupted:
        click.echo(f"Next: fourbit export {folder} -o model.onnx")
