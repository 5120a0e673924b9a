"""``fourbit export``."""

from pathlib import Path

import click

from fourbit_onnx.cli import options, output


@click.command()
@click.argument("folder", metavar="DIR", type=options.FOLDER)
@click.option(
    "-o",
    "--output",
    "file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The model file to write.",
)
@click.option(
    "--weights",
    type=click.Choice(["int4", "int8", "float"]),
    default="int4",
    show_default=True,
    help="4-bit weights as INT4, as bytes for runtimes without INT4, or as float32 numbers.",
)
@click.option("--check", "data", help="Compare the file with DIR on this data, on plain onnxruntime.")
@options.key_option
def command(folder: Path, file: Path, weights: str, data: str | None, keys: list[tuple[str, str]]) -> None:
    """Write the trained model of DIR for inference.

    The file runs on any onnxruntime with opset 21, without this library.

    \b
    Example:
      fourbit export out -o model.onnx --check digits
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx import api

    api.export(folder, file, weights=weights)
    click.echo(f"{file}: {output.size(file.stat().st_size)}, weights in {weights}")
    if data is not None:
        from fourbit_onnx.data import named
        from fourbit_onnx.runtime import agreement
        from fourbit_onnx.runtime.trainer import Trainer

        trainer = Trainer(folder)
        arrays = named.find(data, list(trainer.specs), keys=dict(keys), split="test", specs=trainer.specs)
        found = agreement.compare(trainer, file, arrays)
        click.echo(f"on plain onnxruntime, against {folder}: {found}")
        if not found.good:
            raise click.ClickException(f"{file} does not compute what {folder} computes; please report this")
