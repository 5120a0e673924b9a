"""``fourbit convert``."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fourbit_onnx.cli import options, output

if TYPE_CHECKING:
    from fourbit_onnx.passes.pipeline import Compiled

RECOMPUTE = ("none", "cheap", "all")
LOSSES = ("cross_entropy", "mse", "bce_with_logits", "l1", "output")


@click.command()
@click.argument("model", type=options.MODEL)
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The artifact folder to write.",
)
@options.recipe_options
@click.option(
    "--loss",
    type=click.Choice(LOSSES),
    default="cross_entropy",
    show_default=True,
    help="What is minimised; 'output': the model computes it itself.",
)
@click.option(
    "--loss-output", default="", metavar="NAME", help="The output that the loss reads.  [default: the first]"
)
@click.option("--optimizer", type=click.Choice(["sgd", "adamw"]), default="sgd", show_default=True)
@click.option("--momentum", type=float, help="SGD: share of the last step that is kept.  [default: 0.9]")
@click.option("--nesterov", is_flag=True, help="SGD: look ahead.")
@click.option(
    "--weight-decay",
    type=float,
    default=1e-4,
    show_default=True,
    help="For tensors of two or more dimensions.",
)
@click.option(
    "--clip-decay",
    type=float,
    default=0.0,
    show_default=True,
    help="For the trained clips of activations (PACT).",
)
@click.option(
    "--max-norm",
    type=float,
    default=0.0,
    show_default=True,
    help="Largest norm of all gradients; 0: no limit.",
)
@click.option(
    "--freeze", multiple=True, metavar="PATTERN", help="Weights that are not trained; may be repeated."
)
@click.option(
    "--initial-clip",
    type=float,
    default=0.0,
    show_default=True,
    help="First value of the clips; 0: from the first batches.",
)
@click.option(
    "--recompute",
    type=click.Choice(RECOMPUTE),
    default="none",
    show_default=True,
    help="Inputs of batch normalisation that the backward pass computes again: less memory, the same bits, "
    "more time; 'cheap': those that free most memory for their time.",
)
@click.option("--force", "overwrite", is_flag=True, help="Replace the folder if it is an artifact folder.")
@output.json_option
def command(model: Path, folder: Path, recipe: str, as_json: bool, **settings: Any) -> None:
    """Make the ONNX file MODEL ready for training in 4 bits.

    Writes the training, evaluation and optimiser graphs, the precision plan and the first checkpoint.

    Product inputs: the activations that the products of the backward pass read again. (fourbit bench counts
    stored tensors: all that the backward pass reads of the forward one.)

    \b
    Examples:
      fourbit convert model.onnx -o out
      fourbit convert model.onnx -o out --keep 'head*' --set 'layer4*=minmax' --optimizer adamw
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx import api

    compiled = api.convert(model, folder, recipe=options.resolved(recipe, model), **settings)
    summary = _summary(compiled, folder, asked=settings["recompute"])
    if as_json:
        output.print_json(summary)
    else:
        _print(summary, {site.group for site in compiled.plan.sites if site.precision == "4-bit"})


def _summary(compiled: "Compiled", folder: Path, *, asked: str) -> dict[str, Any]:
    from fourbit_onnx.passes import survey

    plan, recomputed = compiled.plan, compiled.manifest.recomputed
    warnings = survey.warnings(plan, {node.op_type for node in compiled.training.graph.node})
    if asked != "none" and not recomputed:
        what = "product that is cheap to compute" if asked == "cheap" else "product that can be computed"
        warnings.append(f"--recompute {asked} changes nothing: no batch normalisation follows a {what} again")
    return {
        "folder": str(folder),
        "recipe": plan.recipe,
        "sites": len(plan.sites),
        "four_bit_sites": sum(site.precision == "4-bit" for site in plan.sites),
        "four_bit_share": plan.share,
        "product_inputs_of": plan.unit,
        "product_input_bytes": plan.product_input_bytes,
        "product_input_bytes_float32": plan.float_bytes,
        "recomputed": recomputed,
        "parameters": len(compiled.manifest.parameters),
        "inputs": compiled.manifest.inputs,
        "targets": compiled.manifest.targets,
        "not_four_bit": [
            {"site": site.name, "group": site.group, "precision": site.precision, "reason": site.reason}
            for site in plan.sites
            if site.precision != "4-bit"
        ],
        "warnings": warnings,
    }


def _print(summary: dict[str, Any], four_bit_groups: Collection[str]) -> None:
    stored, plain = summary["product_input_bytes"], summary["product_input_bytes_float32"]
    less = f" ({plain / stored:.1f} times less)" if 0 < stored < plain else ""
    click.echo(f"{summary['folder']}: recipe {summary['recipe']}")
    click.echo(
        f"  {summary['four_bit_sites']} of {summary['sites']} multiply-accumulate sites in 4 bits, "
        f"{output.percent(summary['four_bit_share'])} of the multiply-accumulates"
    )
    click.echo(
        f"  product inputs stored for backward: {output.size(stored)} "
        f"{output.of_unit(summary['product_inputs_of'])}, in float32 {output.size(plain)}{less}"
    )
    if recomputed := summary["recomputed"]:
        click.echo(f"  {output.recomputed(recomputed)}")
    reasons: dict[str, list[str]] = {}
    for site in summary["not_four_bit"]:
        names = reasons.setdefault(f"{site['precision']}, {site['reason']}", [])
        group = "" if site["group"] in four_bit_groups else site["group"]  # else a step of it, not all
        if (name := group or site["site"]) not in names:
            names.append(name)
    for reason, names in reasons.items():
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        click.echo(f"  not in 4 bits: {', '.join(names[:4])}{more} ({reason})")
    for warning in summary["warnings"]:
        click.echo(f"Warning: {warning}", err=True)
    wanted = ", ".join([*summary["inputs"], *summary["targets"]])
    click.echo(f"Next: fourbit train {summary['folder']} --data FILE    (arrays: {wanted})")
