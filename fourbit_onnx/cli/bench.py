"""``fourbit bench``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.cli import options, output
from fourbit_onnx.cli.convert import LOSSES

if TYPE_CHECKING:
    from fourbit_onnx.harness.bench.subjects import Subject


@click.command()
@click.option(
    "--model",
    default="resnet18",
    show_default=True,
    metavar="NAME|FILE",
    help="resnet18, mobilenetv2, transformer, lstm; or an ONNX file.",
)
@options.recipes_option("the fp32 and fp16 graphs are always among them.")
@options.threads_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Samples in a step.  [default: the model's; 32]"
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Timed steps of each recipe."
)
@click.option(
    "--warmup", type=click.IntRange(min=1), default=3, show_default=True, help="Steps before, not timed."
)
@click.option(
    "--loss", type=click.Choice(LOSSES), help="For a file: what is minimised.  [default: cross_entropy]"
)
@click.option(
    "--scaling",
    is_flag=True,
    help="Measure with more threads and samples, and models that are deeper, wider or longer.",
)
@click.option(
    "--recompute",
    is_flag=True,
    help="Measure every recipe with fourbit convert --recompute cheap and all, too.",
)
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(allow_dash=True, path_type=Path),
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write all numbers as one JSON object to FILE; without FILE to stdout, and nothing else there.",
)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    model: str,
    recipes: list[str],
    threads: int | None,
    batch_size: int | None,
    steps: int,
    warmup: int,
    loss: str | None,
    scaling: bool,
    recompute: bool,
    markdown: bool,
    json_file: Path | None,
    quiet: bool,
) -> None:
    """Time and memory of training steps, beside FP32 and FP16.

    Every recipe trains the same model on the same batch in a process of its own; they take turns, step by
    step. The first losses are compared before anything is timed.

    Stored tensors: all that the backward pass reads of the forward one, but for parameters. (fourbit inspect
    counts product inputs only, the activations that the backward products read again.)

    \b
    Examples:
      fourbit bench
      fourbit bench --model transformer --threads 1 --json transformer.json
      fourbit bench --model model.onnx --recipes ibm2020,luq --batch-size 64 --markdown
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx.cli.rounds import Rounds
    from fourbit_onnx.harness import lineup
    from fourbit_onnx.harness.bench import bench, tables
    from fourbit_onnx.harness.bench import scaling as scaled

    to_stdout = json_file == Path("-")
    if json_file and not to_stdout:
        whole_file.check_place(json_file)
    subject = _subject(model, loss)
    recipes, why = lineup.resolved(recipes, subject.build)
    if why:
        click.echo(why, err=True)
    settings = bench.Settings(
        recipes,
        threads,
        batch_size,
        rounds=steps,
        warmup=warmup,
        recompute=recompute,
        command=shlex.join(["fourbit", *sys.argv[1:]]),
    )
    with Rounds(not quiet) as display:
        measure = scaled.scaling if scaling else bench.bench
        result = measure(subject, settings, display)
    if to_stdout:
        output.print_json(result)
        return
    if json_file:
        whole_file.write(json_file, output.to_json(result) + "\n")
    header, rows, right = tables.scaling(result) if scaling else tables.recipes(result)
    if markdown:
        click.echo(tables.markdown(result, header, rows, right))
    else:
        click.echo(output.table(header, rows, right=right))
        click.echo(f"\n{tables.caption(result)}\n{tables.NOTE}")


def _subject(model: str, loss: str | None) -> "Subject":
    from fourbit_onnx.harness.bench.subjects import SUBJECTS, Subject

    if model in SUBJECTS:
        if loss is not None:
            raise click.UsageError(f"--loss is for a model file; {model} has its own")
        return SUBJECTS[model]
    if not Path(model).is_file():
        raise click.BadParameter(
            f"{model!r} is neither a model ({', '.join(SUBJECTS)}) nor a file", param_hint="'--model'"
        )
    return Subject(model, loss=loss or "cross_entropy")
