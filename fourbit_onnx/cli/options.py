"""Options that several commands have, and what their values must look like."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fourbit_onnx.errors import RecipeError
from fourbit_onnx.recipes import table
from fourbit_onnx.recipes.techniques import TECHNIQUES, WITHOUT

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class _Model(click.Path):
    """A file that exists; the name of a reference model is none, but easily taken for one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not Path(value).exists() and (how := reference_model(str(value))):
            self.fail(how, param, ctx)
        return super().convert(value, param, ctx)


MODEL = _Model(exists=True, dir_okay=False, path_type=Path)
MODEL_OR_FOLDER = _Model(exists=True, path_type=Path)


def reference_model(name: str) -> str:
    """How the reference model ``name`` is made a file; "" if there is none."""
    from fourbit_onnx.models.registry import MODELS

    if name not in MODELS:
        return ""
    return (
        f'{name!r} is a reference model, and no file yet; make one with: python -c "import onnx; from '
        f"fourbit_onnx.models import registry; onnx.save(registry.build('{name}'), '{name}.onnx')\""
    )


DATA_HELP = (
    "A .npz, .npy, .csv or .txt file, a folder of .npy, IDX, CIFAR, .txt or image files, or built-in: "
    "digits, glyphs, text, speech."
)


def recipe_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A callback that lets nothing through but what `table.find` knows."""
    try:
        table.find(value)
    except RecipeError as error:
        if not error.wrong_use:  # what a file holds
            raise
        raise click.BadParameter(str(error)) from error
    return value


def recipe_name_or_auto(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The same, and ``auto``, which is for `resolved`."""
    return value if value.partition(WITHOUT)[0] == table.AUTO else recipe_name(ctx, param, value)


def resolved(name: str, model: Path) -> str:
    """The name of a recipe; in place of ``auto`` that for the model, of which stderr says why."""
    from fourbit_onnx.passes.choose_recipe import resolve

    found, why = resolve(name, lambda: model)
    if why:
        click.echo(why, err=True)
    return found


def _recipe_names(ctx: click.Context, param: click.Parameter, value: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    for name in names:
        recipe_name_or_auto(ctx, param, name)
    if not names:
        raise click.BadParameter("name at least one recipe")
    return names


def recipes_option(remark: str) -> Callable[[F], F]:
    """``--recipes``: names separated by commas, each once; ``auto`` among them is for `lineup.resolved`.

    Args:
        remark: What the command does with them, for its help.
    """
    return click.option(
        "--recipes",
        default=f"fp16,{table.DEFAULT}",
        show_default=True,
        callback=_recipe_names,
        metavar="NAMES",
        help=f"Recipes to compare, separated by commas, auto for the one that suits such a model; {remark}",
    )


def pairs(
    left: str, right: str, check: Callable[[click.Context, click.Parameter, str], object] | None = None
) -> Callable[..., list[tuple[str, str]]]:
    """A callback that splits every ``LEFT=RIGHT`` of an option; ``check``: another one, for each RIGHT."""

    def split(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
        found = []
        for value in values:
            before, sign, after = value.rpartition("=")
            if not (before and sign and after):
                raise click.BadParameter(f"{value!r} is not of the form {left}={right}")
            if check is not None:
                check(ctx, param, after)
            found.append((before, after))
        return found

    return split


def recipe_options(command: F) -> F:
    """``--recipe``, ``--without``, ``--keep`` and ``--set``: which site gets which precision."""
    for option in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="PATTERN=RECIPE",
            callback=pairs("PATTERN", "RECIPE", recipe_name),
            help="Another recipe for the sites whose node or weight name fits; may be repeated.",
        ),
        click.option(
            "--keep",
            multiple=True,
            metavar="PATTERN",
            help="Keep sites whose node or weight name fits (*, ?) in float32; may be repeated.",
        ),
        click.option(
            "--recipe",
            callback=recipe_name_or_auto,
            default=table.DEFAULT,
            show_default=True,
            metavar="NAME",
            help=f"Formats and scale rules of every site: {', '.join(table.RECIPES)}; a file.toml; "
            "or auto, the one that suits such a model.",
        ),
        click.option(
            "--without",
            multiple=True,
            metavar="TECHNIQUE",
            type=click.Choice(list(TECHNIQUES)),
            help=f"Switch off one technique of the recipe: {', '.join(TECHNIQUES)}; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def given() -> list[str]:
    """The options that the user gave to the command that runs now, by their long names: ``--keep``."""
    context = click.get_current_context()
    return [
        max(param.opts, key=len)
        for param in context.command.params
        if isinstance(param, click.Option)
        and context.get_parameter_source(param.name or "") is not click.core.ParameterSource.DEFAULT
    ]


def threads_option(command: F) -> F:
    """``--threads``."""
    return click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of each operator.  [default: all processors]"
    )(command)


def key_option(command: F) -> F:
    """``--key``: where the model's inputs are to be found in the data."""
    return click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="INPUT=KEY",
        callback=pairs("INPUT", "KEY"),
        help="The array (CSV: column) that holds an input of the model; may be repeated.",
    )(command)
