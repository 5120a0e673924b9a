"""``fourbit eval``."""

from pathlib import Path

import click

from fourbit_onnx.cli import options, output


@click.command()
@click.argument("folder", metavar="DIR", type=options.FOLDER)
@click.option("--data", required=True, help=options.DATA_HELP)
@click.option(
    "--split",
    type=click.Choice(["train", "test"]),
    default="test",
    show_default=True,
    help="The part, of data that has both.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Samples at a time.  [default: 256]")
@options.key_option
@options.threads_option
@output.json_option
def command(
    folder: Path,
    data: str,
    split: str,
    batch_size: int | None,
    keys: list[tuple[str, str]],
    threads: int | None,
    as_json: bool,
) -> None:
    """Loss and metrics of the model of DIR on data.

    The model runs in the precision that it is trained in.

    \b
    Example:
      fourbit eval out --data digits
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx.data import named
    from fourbit_onnx.runtime.data_specs import fixed_batch
    from fourbit_onnx.runtime.trainer import Trainer

    named.require(data)
    if "--split" in options.given() and not named.has_parts(data):
        raise click.UsageError(f"--split is for data with a part to train on and one to test on, not {data}")
    trainer = Trainer(folder, threads=threads)
    arrays = named.find(data, list(trainer.specs), keys=dict(keys), split=split, specs=trainer.specs)
    size = batch_size or (None if fixed_batch(trainer.specs) else 256)
    result = trainer.evaluate(arrays, size)
    samples = len(next(iter(arrays.values())))
    if as_json:
        output.print_json({**result, "samples": samples})
    else:
        click.echo(f"{output.numbers(result)}, {output.counted(samples, 'sample')}")
