"""``fourbit demo``: the whole story on real data, in one command."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fourbit_onnx.artifacts import whole_file
from fourbit_onnx.cli import options, output
from fourbit_onnx.errors import ArtifactError, FourbitError

MARK = "demo.json"  # what makes a folder one of ours, from the start
MODEL = "resnet8"
BATCH_SIZE, RATE, WARMUP = 64, 0.1, 20


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("fourbit-demo"),
    show_default=True,
    help="Where to put everything.",
)
@options.recipes_option("the last one is exported.")
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of first weights and order of the data.",
)
@click.option("--force", is_flag=True, help="Replace the folder of an earlier demo.")
@options.threads_option
def command(
    folder: Path, recipes: list[str], epochs: int, seed: int, force: bool, threads: int | None
) -> None:
    """Train a small ResNet in FP16 and in 4 bits, plot and export it.

    It learns real handwritten digits (UCI optical digits) in less than a minute.

    \b
    Examples:
      fourbit demo
      fourbit demo --recipes fp16,ibm2020,int4-linear --epochs 20 -o compared --force
    """  # noqa: D301 -- click's own mark
    began = time.perf_counter()
    made = _make(folder, force)
    try:
        shown, good = _show(recipes, folder, epochs=epochs, seed=seed, threads=threads)
    except BaseException:  # Ctrl-C, too: a folder that the user never named does not stay half made
        if "--output" not in options.given() or (made and {path.name for path in folder.iterdir()} <= {MARK}):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    click.echo(f"\n{time.perf_counter() - began:.0f} s in all. Next:\n{_next(folder / shown)}")
    if not good:
        raise click.ClickException(
            "the exported model does not predict what the trained one does; please report this"
        )


def _show(
    recipes: list[str], folder: Path, *, epochs: int, seed: int, threads: int | None
) -> tuple[str, bool]:
    """All of it; the recipe that was exported, and whether the file predicts what the trained model does."""
    from fourbit_onnx.data import digits
    from fourbit_onnx.harness.lineup import resolved
    from fourbit_onnx.models import registry

    _mark(folder, {})
    data = digits.load()
    model = registry.build(MODEL, input_shape=(1, 8, 8), classes=10, width=16, seed=seed)
    recipes, auto = resolved(recipes, lambda: model)
    file = folder / f"{MODEL}.onnx"
    whole_file.write(file, model.SerializeToString())
    samples = len(data.test["labels"])
    click.echo(
        f"A small ResNet learns handwritten digits: {' and '.join(recipes)},\n"
        f"with the same data, first weights and settings.\n\n"
        f"model    {file}, {_weights(model):,} weights\n"
        f"data     {len(data.train['labels']):,} images of 8x8 pixels to train on, {samples} to test on\n"
        f"kernels  {_kernels()}\n" + (f"{auto}\n" if auto else "")
    )
    runs = _train(recipes, file, folder, data, epochs=epochs, seed=seed, threads=threads)
    click.echo(_table(runs, samples))
    exported = _export(folder, recipes[-1], data.test)
    _plot(runs, folder)
    _mark(folder, {"epochs": epochs, "seed": seed, "runs": runs})
    return recipes[-1], exported


def _next(folder: Path) -> str:
    lines = {
        f"fourbit inspect {folder}": "what runs in which precision, and why",
        "fourbit inspect YOUR.onnx": "what would become of your model",
        "fourbit convert YOUR.onnx -o out": "make it ready for training",
        "fourbit train out --data YOUR.npz": "train it",
    }
    width = max(map(len, lines))
    return "\n".join(f"  {command:{width}}   {what}" for command, what in lines.items())


def _make(folder: Path, force: bool) -> bool:
    """An empty folder, and whether it was not there yet; nothing that is not ours is touched."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise ArtifactError(f"{folder} exists and is not a demo's; choose another folder with --output")
        if not force:
            raise ArtifactError(
                f"{folder} exists; choose another folder with --output, or replace it with --force"
            )
        shutil.rmtree(folder)
    return whole_file.make_folder(folder)


def _mark(folder: Path, content: Mapping[str, Any]) -> None:
    whole_file.write(folder / MARK, json.dumps({"made_by": "fourbit demo", **content}, indent=1) + "\n")


def _kernels() -> str:
    from fourbit_onnx.runtime import library

    isa = library.isa()
    return f"native, {isa}" if isa != "none" else library.describe().removeprefix("native kernels: ")


def _weights(model: Any) -> int:
    from math import prod

    return sum(prod(tensor.dims) for tensor in model.graph.initializer if "running" not in tensor.name)


def _train(
    recipes: list[str], file: Path, folder: Path, data: Any, *, epochs: int, seed: int, threads: int | None
) -> dict[str, dict[str, Any]]:
    """Recipe to what there is to say of its run."""
    from fourbit_onnx import api
    from fourbit_onnx.cli.bars import Bars
    from fourbit_onnx.runtime.schedules import Cosine
    from fourbit_onnx.runtime.trainer import Trainer

    runs = {}
    steps = epochs * -(-len(data.train["labels"]) // BATCH_SIZE)
    with Bars(recipes, epochs, steps) as bars:
        for recipe in recipes:
            plan = api.convert(file, folder / recipe, recipe=recipe).plan
            trainer = Trainer(folder / recipe, threads=threads)
            history = trainer.fit(
                data.train,
                evaluation=data.test,
                epochs=epochs,
                batch_size=BATCH_SIZE,
                learning_rate=RATE,
                schedule=Cosine(warmup=WARMUP),
                seed=seed,
                progress=bars.display(recipe),
            )
            if history.interrupted:
                raise KeyboardInterrupt
            runs[recipe] = {
                "accuracy": history.epochs[-1]["eval_accuracy"],
                "four_bit_share": plan.share,
                "product_input_bytes": plan.product_input_bytes,
                "seconds": history.seconds,
                "epochs": history.epochs,
            }
    return runs


def _table(runs: Mapping[str, Mapping[str, Any]], samples: int) -> str:
    rows = [
        [
            recipe,
            output.percent(run["accuracy"]),
            output.percent(run["four_bit_share"]),
            output.size(run["product_input_bytes"]),
            f"{run['seconds']:.1f} s",
        ]
        for recipe, run in runs.items()
    ]
    header = ["recipe", "test accuracy", "MACs in 4 bits", "product inputs", "training"]
    notes = [
        f"One test image is {100 / samples:.2f} points. MACs: multiply-accumulates.",
        "Product inputs: activations stored for the backward products, of one sample.",
    ]
    if "fp16" in runs:
        notes.append("fp16 rounds to FP16 and computes in FP32: not the time of FP16 hardware.")
    return "\n" + output.table(header, rows, right=(1, 2, 3, 4)) + "\n\n" + "\n".join(notes) + "\n"


def _export(folder: Path, recipe: str, test: Mapping[str, Any]) -> bool:
    """Export, and compare on plain onnxruntime; whether all is well."""
    from fourbit_onnx import api
    from fourbit_onnx.runtime import agreement
    from fourbit_onnx.runtime.trainer import Trainer

    file = folder / f"{recipe}.onnx"
    api.export(folder / recipe, file, weights="int4")
    found = agreement.compare(Trainer(folder / recipe), file.read_bytes(), test, file)
    click.echo(
        f"exported {file} ({output.size(file.stat().st_size)})\n"
        f"         on plain onnxruntime: {found.same} of {found.samples} predictions the same"
    )
    return found.good


def _plot(runs: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    from fourbit_onnx.runtime import plot

    picture = folder / "curves.png"
    try:
        plot.learning_curves(
            {recipe: run["epochs"] for recipe, run in runs.items()},
            picture,
            title="Handwritten digits, ResNet-8",
        )
        click.echo(f"plotted  {picture}")
    except FourbitError as error:
        click.echo(f"no plot  {error} (the numbers are in {folder / MARK})")
