"""``fourbit inspect``."""

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fourbit_onnx.cli import options, output, projection
from fourbit_onnx.recipes import hardware
from fourbit_onnx.recipes.projection import project as project_plan
from fourbit_onnx.recipes.recipe import Quantizer, readable
from fourbit_onnx.recipes.techniques import WITHOUT
from fourbit_onnx.recipes.toml import write

if TYPE_CHECKING:
    from fourbit_onnx.passes.survey import Untrainable
    from fourbit_onnx.recipes.plan import Plan, Site
    from fourbit_onnx.recipes.projection import Projection
    from fourbit_onnx.recipes.recipe import Recipe

_LONGEST = 36  # letters of a name; with the sizes of a Transformer a row is about 120 long
_NAMES = "abcdefghijklmnopqrstuvwxyz"
# Points that mostly share a quantiser: the backward products re-use the codes of the forward one.
_PAIRS = (("fwd.x", "wgrad.x"), ("fwd.w", "dgrad.w"), ("dgrad.dy",), ("wgrad.dy",))
_OF_RECIPES = ("--recipe", "--without")
_OF_SITES = ("--keep", "--set", "--freeze")


@click.command()
@click.argument("path", metavar="[FILE_OR_DIR]", required=False, type=options.MODEL_OR_FOLDER)
@options.recipe_options
@click.option(
    "--freeze", multiple=True, metavar="PATTERN", help="FILE: weights that are not trained; may be repeated."
)
@click.option("--toml", is_flag=True, help="Only print the recipe, as a TOML file to change and to use.")
@click.option(
    "--project",
    is_flag=True,
    help="Also the step's cost on 4-bit hardware, projected from published figures, FP16 = 1; not measured.",
)
@click.option(
    "--figures",
    type=options.FILE,
    help="--project: a TOML file with other figures; docs/projection.md has the form.",
)
@output.json_option
def command(
    path: Path | None,
    recipe: str,
    without: tuple[str, ...],
    keep: tuple[str, ...],
    settings: list[tuple[str, str]],
    freeze: tuple[str, ...],
    toml: bool,
    project: bool,
    figures: Path | None,
    as_json: bool,
) -> None:
    """What runs in which precision, and why.

    DIR, an artifact folder: its precision plan, a row for each multiply-accumulate site, and its quantisers.
    FILE, an ONNX model: the plan that a recipe would make, and every operator that cannot be trained. A
    folder has its plan: --recipe, --without, --keep, --set, --freeze and --toml are not for DIR. Only --toml
    needs neither.

    Product inputs: the activations that the products of the backward pass read again. (fourbit bench counts
    stored tensors: all that the backward pass reads of the forward one.)

    \b
    Examples:
      fourbit inspect out
      fourbit inspect model.onnx --recipe minmax
      fourbit inspect out --project
      fourbit inspect --toml --recipe luq > mine.toml
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx.recipes import table

    _refuse_without_use(path, toml)
    if figures and not project:
        raise click.UsageError("--figures is for --project.")
    if toml and project:
        raise click.UsageError("--toml prints a recipe, which has no cost to --project; give one of the two.")
    if path is not None and path.is_file():
        recipe = options.resolved(recipe, path)
    elif recipe.partition(WITHOUT)[0] == table.AUTO:
        raise click.UsageError("--recipe auto needs a model file to look at.")
    chosen = table.find(WITHOUT.join([recipe, *without]))
    if toml:
        click.echo(write(dataclasses.replace(chosen, name=f"my-{chosen.name}")), nl=False)
        return
    if path is None:
        raise click.UsageError("Missing argument 'FILE_OR_DIR'.")
    table_of_figures = hardware.read(figures) if figures else hardware.FIGURES
    result = _folder(path) if path.is_dir() else _file(path, chosen, keep, settings, freeze)
    found = project_plan(result["plan"], table_of_figures) if project else None
    if as_json:
        output.print_json(
            result
            | ({"projected": projection.fields(found)} if found else {})
            | {
                "plan": None if result["plan"] is None else _plan_fields(result["plan"]),
                "untrainable": [dataclasses.asdict(one) for one in result["untrainable"]],
            }
        )
    else:
        _print(result, found)


def _refuse_without_use(path: Path | None, toml: bool) -> None:
    """Refuse options that would change nothing.

    Raises:
        click.UsageError: The plan of a folder is made, and a recipe alone has no sites and no weights.
    """
    if path is not None and path.is_dir():
        useless, why = {*_OF_RECIPES, *_OF_SITES, "--toml"}, f"is for a model file; {path} has its plan."
    elif toml:
        useless, why = {*_OF_SITES}, "is for a plan; --toml prints a recipe."
    else:
        return
    for option in options.given():
        if option in useless:
            raise click.UsageError(f"{option} {why}")


def _folder(path: Path) -> dict[str, Any]:
    from fourbit_onnx.artifacts import checkpoint, manifest
    from fourbit_onnx.passes.load import operators
    from fourbit_onnx.recipes import plan

    described = manifest.read(path)
    found = plan.read(path / manifest.PLAN)
    counts = Counter(
        name for domain, name in operators(path / manifest.TRAINING_MODEL) if domain == "ai.fourbit"
    )
    progress = checkpoint.read(path).progress
    return {
        "path": str(path),
        "plan": found,
        "untrainable": [],
        "warnings": [],
        "operators": dict(sorted(counts.items())),
        "parameters": len(described.parameters),
        "recomputed": described.recomputed,
        "step": progress.step,
        "epoch": progress.epoch,
    }


def _file(
    path: Path,
    recipe: "Recipe",
    keep: tuple[str, ...],
    settings: list[tuple[str, str]],
    freeze: tuple[str, ...],
) -> dict[str, Any]:
    from fourbit_onnx.passes.load import load
    from fourbit_onnx.passes.pipeline import Options
    from fourbit_onnx.passes.survey import survey

    chosen = Options(recipe=recipe, keep=keep, settings=settings, freeze=freeze)
    found = survey(load(path), chosen)
    return {
        "path": str(path),
        "plan": found.plan,
        "untrainable": found.untrainable,
        "warnings": found.warnings,
        "weights": found.parameters,
    }


def _plan_fields(plan: "Plan") -> dict[str, Any]:
    return {
        **dataclasses.asdict(plan),
        "four_bit_share": plan.share,
        "product_inputs_of": plan.unit,
        "product_input_bytes": plan.product_input_bytes,
        "product_input_bytes_float32": plan.float_bytes,
    }


def _print(result: dict[str, Any], found: "Projection | None") -> None:
    plan: Plan = result["plan"]
    click.echo(f"{result['path']}: recipe {plan.recipe}{_state(result)}")
    if plan.sites:
        _sites(plan)
    else:
        click.echo("no multiply-accumulate site (Conv, Gemm, MatMul with float32 operands)")
    if found:
        projection.show(found)
    if count := result.get("recomputed"):
        click.echo(output.recomputed(count))
    if counts := result.get("operators"):
        listed = ", ".join(f"{number} {name}" for name, number in counts.items())
        click.echo("\n" + textwrap.fill(f"the training graph has {listed}", 80))
    for warning in result["warnings"]:
        click.echo(f"Warning: {warning}", err=True)
    if result["untrainable"]:
        _untrainable(result["untrainable"])
    elif "weights" in result:
        click.echo(
            f"\nall operators can be trained; {result['weights']:,} weights"
            f"\nNext: fourbit convert {result['path']} -o out"
        )


def _state(result: dict[str, Any]) -> str:
    if "step" not in result:
        return ""
    step = result["step"]
    return f", trained for {output.counted(step, 'step')}" if step else ", not trained yet"


def _sites(plan: "Plan") -> None:
    from fourbit_onnx.harness.wording import shortened

    total = sum(site.macs for site in plan.sites)
    formats = _formats(plan.sites)
    rows = []
    for alike in _folded(plan.sites):
        site = alike[0]
        rows.append(
            [
                shortened(site.group, _LONGEST) + f" ({len(alike)} products)"
                if len(alike) > 1
                else shortened(site.name, _LONGEST),
                site.op,
                _shape(site, "x"),
                _shape(site, "w"),
                output.percent(sum(one.macs for one in alike) / total) if total else "?",
                f"4-bit {formats[tuple(site.points.values())]}"
                if site.points
                else f"{site.precision}  {site.reason}",
            ]
        )
    click.echo()
    click.echo(output.table(["site", "op", "x", "w", "MACs", "runs in"], rows, right=(4,)))
    if any("…" in row[0] for row in rows):
        click.echo("whole names: --json")
    if any("?" in row[2] or "?" in row[3].partition("x")[2] for row in rows):  # w's first may be the batch
        click.echo("?: an open size, or one computed of it; MACs and bytes take 1 for the open one")
    click.echo()
    for points, name in formats.items():
        of = dict(zip(next(site.points for site in plan.sites if site.points), points, strict=True))
        for number, pair in enumerate(_alike(of)):
            click.echo(f"{' ' if number else name}  {', '.join(pair):14}  {readable(of[pair[0]])}")
    if any(Quantizer.parse(text).both_phases for points in formats for text in points):
        click.echo("log4 both: codes on the even grid and on the odd one; a product takes their mean")
    click.echo(
        f"in 4 bits: {output.percent(plan.share)} of the multiply-accumulates\n"
        f"product inputs stored for backward: {output.size(plan.product_input_bytes)} "
        f"{output.of_unit(plan.unit)}, in float32 {output.size(plan.float_bytes)}"
    )


def _folded(sites: Sequence["Site"]) -> list[list["Site"]]:
    """The sites of a group that run alike together, every other one alone."""
    rows: dict[tuple[object, ...], list[Site]] = {}
    for site in sites:
        key = (site.group or site.name, site.precision, site.reason, tuple(site.points.values()))
        rows.setdefault(key, []).append(site)
    return list(rows.values())


def _alike(of: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The points in pairs, those apart that have quantisers of their own."""
    rows: list[tuple[str, ...]] = []
    for pair in _PAIRS:
        same = len({of[point] for point in pair}) == 1
        rows += [pair] if same else [(point,) for point in pair]
    return rows


def _formats(sites: Sequence["Site"]) -> dict[tuple[str, ...], str]:
    """A letter for each set of formats that occurs."""
    kinds = dict.fromkeys(tuple(site.points.values()) for site in sites if site.points)
    return {points: _NAMES[number % len(_NAMES)] for number, points in enumerate(kinds)}


def _shape(site: "Site", name: str) -> str:
    shape = site.shapes.get(name)
    if shape is None:
        return "?"
    if name == "x":  # the batch axis says nothing
        shape = shape[1:]
    return "x".join(str(size) if isinstance(size, int) else "?" for size in shape)


def _untrainable(found: Sequence["Untrainable"]) -> None:
    click.echo("\ncannot be trained on the CPU:")
    for one in found:
        more = f" and {len(one.nodes) - 1} more" if len(one.nodes) > 1 else ""
        click.echo(f"  {one.op} ({one.nodes[0]}{more}): {one.remedy}")
