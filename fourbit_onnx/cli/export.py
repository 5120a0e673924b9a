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
@click.option(
    "--check",
    "data",
    help="Compare the model with DIR on this data, on plain onnxruntime, before it is written. A prediction "
    "is the place of an output's largest number along axis 1; of a sample with several (tokens, pixels), all "
    "must be the same.",
)
@options.key_option
@click.option("--force", "overwrite", is_flag=True, help="Replace the file if it is an exported model.")
def command(
    folder: Path, file: Path, weights: str, data: str | None, keys: list[tuple[str, str]], overwrite: bool
) -> None:
    """Write the trained model of DIR for inference.

    The file runs on any onnxruntime with opset 21, without this library. If --check finds that it does not
    compute what DIR computes, nothing is written.

    \b
    Example:
      fourbit export out -o model.onnx --check digits
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx.runtime.export import export

    if keys and data is None:
        raise click.UsageError("--key is for the data of --check")
    said: list[str] = []

    def compare(model: bytes) -> None:
        if data is not None:
            said.append(_compared(folder, file, model, data, keys))

    export(folder, file, weights=weights, overwrite=overwrite, accept=compare)
    click.echo("\n".join([f"{file}: {output.size(file.stat().st_size)}, weights in {weights}", *said]))


def _compared(folder: Path, file: Path, model: bytes, data: str, keys: list[tuple[str, str]]) -> str:
    """What the comparison found, in words.

    Raises:
        click.ClickException: The model does not compute what the folder computes.
    """
    from fourbit_onnx.data import named
    from fourbit_onnx.runtime import agreement
    from fourbit_onnx.runtime.trainer import Trainer

    trainer = Trainer(folder)
    arrays = named.find(data, list(trainer.specs), keys=dict(keys), split="test", specs=trainer.specs)
    found = agreement.compare(trainer, model, arrays, file)
    said = f"on plain onnxruntime, against {folder}: {found}"
    if not found.good:
        raise click.ClickException(
            f"the model does not compute what {folder} computes, so {file} is not written; please report "
            f"this, with: {said}"
        )
    return said
