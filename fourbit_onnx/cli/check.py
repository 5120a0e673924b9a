"""``fourbit check``."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fourbit_onnx.cli import options, output
from fourbit_onnx.cli.convert import LOSSES
from fourbit_onnx.cli.main import INTERRUPTED
from fourbit_onnx.errors import FourbitError, meant

_EQUAL = "all differences are equal, so the interval is not known; use more seeds."


def _budget(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    from fourbit_onnx.harness import budget

    try:
        return None if value is None else budget.seconds(value)
    except FourbitError as error:
        raise click.BadParameter(str(error)) from error


def _numbers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for name, number in options.pairs("NAME", "NUMBER")(ctx, param, values):
        try:
            found[name] = float(number) if "." in number or "e" in number else int(number)
        except ValueError as error:
            raise click.BadParameter(f"{number!r} of {name} is not a number") from error
    return found


@click.command()
@click.argument("subject", metavar="TASK|MODEL")
@click.option("--data", help="For a model file: what to train on. " + options.DATA_HELP)
@click.option(
    "--eval",
    "evaluation",
    help="For a model file: what to test on.  [default: the test part of the data, else a fifth of it]",
)
@options.key_option
@click.option(
    "--loss",
    type=click.Choice(LOSSES),
    help="For a model file: what is minimised.  [default: cross_entropy]",
)
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "bits_per_character", "loss"]),
    help="What is compared.  [default: the task's; accuracy if the loss is cross_entropy, else loss]",
)
@click.option("--model", help="For a task: another reference model.")
@click.option(
    "--model-option",
    "model_options",
    multiple=True,
    metavar="NAME=NUMBER",
    callback=_numbers,
    help="For a task: an option of the model's builder, such as drop=0.1 of transformer_lm; may be repeated.",
)
@options.recipes_option("fp16 is always among them.")
@click.option(
    "--without",
    multiple=True,
    metavar="TECHNIQUE",
    help="Try every recipe that has this technique without it, too (RECIPE~TECHNIQUE); may be repeated.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs of every recipe."
)
@click.option(
    "--first-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Their seeds are this number and those that follow: tune on some, judge on others.",
)
@click.option(
    "--budget",
    callback=_budget,
    metavar="TIME",
    help="Begin no seed that would end later, such as 90s, 10m or 2h; the first always runs.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Runs at a time.  [default: one a processor]")
@click.option("--epochs", type=click.IntRange(min=1), help="Of every run.  [default: the task's; 10]")
@click.option("--batch-size", type=click.IntRange(min=1), help="[default: the task's; 64]")
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), help="[default: the task's; sgd]")
@click.option(
    "--lr",
    "learning_rate",
    type=float,
    help="Highest learning rate.  [default: the task's; 0.1, AdamW 0.001]",
)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "cosine", "step"]),
    help="The learning rate over a run.  [default: the task's; cosine]",
)
@click.option(
    "--warmup", type=click.IntRange(min=0), help="Steps in which it rises.  [default: the task's; 0]"
)
@click.option("--weight-decay", type=float, help="[default: the task's; 0.0001]")
@click.option("--clip-decay", type=float, help="For the trained clips (PACT).  [default: the task's; 0]")
@click.option(
    "--max-norm", type=float, help="Largest norm of all gradients.  [default: the task's; no limit]"
)
@click.option(
    "--keep",
    multiple=True,
    metavar="PATTERN",
    help="Keep sites whose node or weight name fits (*, ?) in float32; may be repeated.",
)
@click.option(
    "--margin",
    type=float,
    help="How much worse than fp16 is no loss: for accuracy 0.005 is half a point; else a share.  "
    "[default: the task's; 0.005 for accuracy, else 0.02]",
)
@click.option(
    "--observe",
    type=click.Choice(["first", "all", "none"]),
    default="first",
    show_default=True,
    help="Whose quantisers are measured during training: the first seed's, or all.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="At the end, try every site alone in 4 bits, and alone in float32, with the first 4-bit recipe.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    help="Where to put everything; a check that is there is continued.  [default: check-TASK]",
)
@click.option("--force", is_flag=True, help="Replace a check of other settings.")
@click.option(
    "--strict", is_flag=True, help="Exit with 1 if a run failed or a recipe is worse than the margin."
)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@output.json_option
def command(
    subject: str,
    data: str | None,
    evaluation: str | None,
    keys: list[tuple[str, str]],
    model: str | None,
    folder: Path | None,
    strict: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare recipes with fp16, with confidence intervals.

    TASK is a built-in task (digits, glyphs, speech, text); MODEL an ONNX file, with --data. For every seed
    each recipe starts from the same weights and sees the data in the same order. The result is a table,
    report.json and report.html. Ctrl-C saves, and the same command goes on; more seeds or recipes may be
    added so.

    \b
    Examples:
      fourbit check digits
      fourbit check glyphs --recipes ibm2020,int4-linear --seeds 10 --budget 2h
      fourbit check text --model lstm_lm --without two-phase-rounding --sensitivity
      fourbit check model.onnx --data train.npz --eval test.npz --epochs 20 --lr 0.05
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx import api
    from fourbit_onnx.harness.tasks import TASKS

    yours = subject not in TASKS
    if yours and not Path(subject).is_file():
        raise click.BadParameter(
            f"{subject!r} is neither a task ({', '.join(TASKS)}) nor a model file{meant(subject, TASKS)}",
            param_hint="'TASK|MODEL'",
        )
    if yours and data is None:
        raise click.UsageError("a model file needs --data")
    if yours and (model is not None or settings["model_options"]):
        raise click.UsageError("--model and --model-option are for tasks; the model file is the model")
    if not yours and (data is not None or evaluation is not None or keys or settings["loss"]):
        raise click.UsageError("--data, --eval, --key and --loss are for a model file; a task has its own")
    folder = folder or Path(f"check-{Path(subject).stem}")
    try:
        report = api.check(
            subject,
            folder,
            model=model,
            data=data,
            evaluation=evaluation,
            keys=dict(keys),
            progress=not quiet,
            command=shlex.join(["fourbit", *sys.argv[1:]]),
            **settings,
        )
    except KeyboardInterrupt:
        click.echo(f"Stopped, and saved in {folder}. Go on with the same command.", err=True)
        raise SystemExit(INTERRUPTED) from None
    if as_json:
        output.print_json(report)
    else:
        click.echo(_text(report, folder))
    if missing := _incomparable(report):
        raise click.ClickException(missing)
    bad = [row["name"] for row in report["recipes"] if row["verdict"] == "worse than margin" or row["failed"]]
    if strict and bad:
        raise click.ClickException(f"worse than the margin, or failed: {', '.join(bad)}")


def _incomparable(report: Mapping[str, Any]) -> str:
    """Why no recipe at all can be compared with the baseline; "" if one can, or none was to be."""
    from fourbit_onnx.harness.statistics import NO_SHARE

    base, *others = report["recipes"]
    if not base["runs"]:
        why = f"every run of {base['name']}, the baseline, failed"
    elif not others or any(row["difference"] is not None for row in others):
        return ""
    elif any(row["not_compared"] == NO_SHARE for row in others):
        return (
            f"no recipe can be compared: the {report['task']['metric']} of {base['name']} is not above 0 in "
            "every run, and differences are shares of it; choose a --loss or --metric that is"
        )
    elif any(row["runs"] for row in others):
        why = f"none has a seed that {base['name']} finished, too"
    else:
        why = f"every run but those of {base['name']} failed"
    return f"no recipe can be compared: {why}; the failures above say why, and report.json"


def _text(report: Mapping[str, Any], folder: Path) -> str:
    from fourbit_onnx.harness import wording
    from fourbit_onnx.harness.display import duration, number
    from fourbit_onnx.harness.statistics import SEEDS

    task = report["task"]
    equal, few = wording.equal(report["recipes"]), wording.few(report["recipes"])
    rows = [
        [
            row["name"],
            "-" if row["mean"] is None else number(task["metric"], row["mean"]),
            _difference(row["difference"], relative=row["relative"]),
            row["verdict"] + (f", {row['failed']} failed" if row["failed"] else ""),
            "-" if row["four_bit_share"] is None else output.percent(row["four_bit_share"]),
            "-" if row["seconds"] is None else duration(row["seconds"]),
        ]
        for row in report["recipes"]
    ]
    unit = "%" if report["recipes"][0]["relative"] else "points"
    name = task["metric"].replace("_", " ")
    header = ["recipe", name, f"difference, {unit}", "verdict", "MACs in 4 bits", "a run"]
    seeds = report["seeds"]
    complete = output.counted(seeds["complete"], "seed")
    if report["partial"]:
        complete += f" (partial: {seeds['asked']} were asked for)"
    how = "difference to fp16 with its 95 % interval, paired by seed;"
    if seeds["complete"] < 2:
        how = f"one decides nothing, --seeds {SEEDS} or more gives a verdict;"
    failed = [
        f"failed: {run['recipe']}, seed {run['seed']}: {run['error']}"
        for run in report["runs"]
        if run["error"]
    ]
    return "\n".join(
        [
            output.table(header, rows, right=(1, 4, 5)),
            "",
            f"{complete}; {how}",
            f"margin {100 * task['margin']:g} {unit}. MACs: multiply-accumulates.",
            *([_too_few(seeds["asked"])] if few else []),
            *([f"{', '.join(equal)}: {_EQUAL}"] if equal else []),
            *([report["auto"]] if report["auto"] else []),
            *failed,
            f"Written: {folder / 'report.json'}"
            + (f", {folder / 'report.html'}" if (folder / "report.html").exists() else ""),
        ]
    )


def _too_few(asked: int) -> str:
    from fourbit_onnx.harness.statistics import SEEDS

    if asked < SEEDS:
        return f"Too few seeds for a verdict; --seeds {SEEDS} or more gives one."
    return f"Too few runs ended well for a verdict, which takes {SEEDS} seeds; the failures below say why."


def _difference(difference: Mapping[str, Any] | None, *, relative: bool) -> str:
    if difference is None:
        return ""
    mean, low, high = (_signed(difference[name]) for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if low else f"{mean} [not known]"


def _signed(number: float | None) -> str:
    from fourbit_onnx.harness.wording import MINUS, signed

    return "" if number is None else signed(100 * number).replace(MINUS, "-")
