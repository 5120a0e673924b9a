"""``fourbit ops``."""

from typing import Any

import click

from fourbit_onnx.cli import output


@click.command()
@click.argument("name", required=False)
@output.json_option
def command(name: str | None, as_json: bool) -> None:
    """The operators of ai.fourbit and their gradients.

    With NAME, the definition of that operator as an ONNX function.

    \b
    Examples:
      fourbit ops
      fourbit ops QuantizeLog4
    """  # noqa: D301 -- click's own mark
    if name is not None:
        _one(name, as_json)
    elif as_json:
        output.print_json(_listing())
    else:
        _all(_listing())


def _listing() -> dict[str, Any]:
    from fourbit_onnx.ops import sites, text
    from fourbit_onnx.ops.reference import REFERENCES
    from fourbit_onnx.ops.registry import FUNCTIONS

    return {
        "domain": text.DOMAIN,
        "version": text.VERSION,
        "operators": [
            {
                "name": name,
                "inputs": list(function.input),
                "outputs": list(function.output),
                "attributes": [
                    *function.attribute,
                    *(attribute.name for attribute in function.attribute_proto),
                ],
                "summary": _summary(REFERENCES[name].__doc__) if name in REFERENCES else "",
            }
            for name, function in FUNCTIONS.items()
        ],
        "gradients": [
            {
                "name": name,
                "inputs": list(function.input),
                "outputs": list(function.output),
                "gradient": sites.GRADIENTS[name],
                "gradient_inputs": list(sites.GRADIENT_FUNCTIONS[sites.GRADIENTS[name]].input),
                "gradient_outputs": list(sites.GRADIENT_FUNCTIONS[sites.GRADIENTS[name]].output),
            }
            for name, function in sites.SITE_FUNCTIONS.items()
        ],
    }


def _summary(doc: str | None) -> str:
    """The first sentence of the reference's docstring, without the operator's name."""
    first = (doc or "").strip().split("\n\n")[0]
    return " ".join(first.split(": ", 1)[-1].replace("``", "").split()).rstrip(".")


def _all(listing: dict[str, Any]) -> None:
    click.echo(f"{listing['domain']}, version {listing['version']}: operators of converted graphs\n")
    for operator in listing["operators"]:
        click.echo(f"{operator['name']}({', '.join(operator['inputs'])}) → {', '.join(operator['outputs'])}")
        if operator["summary"]:
            click.echo(f"    {operator['summary']}")
    click.echo("\noperators that are differentiated, before they are expanded into those above\n")
    for site in listing["gradients"]:
        click.echo(f"{site['name']}({', '.join(site['inputs'])}) → {', '.join(site['outputs'])}")
        click.echo(
            f"    gradient: {site['gradient']}({', '.join(site['gradient_inputs'])}) "
            f"→ {', '.join(site['gradient_outputs'])}"
        )
    click.echo("\nThe definition of one: fourbit ops NAME")


def _one(name: str, as_json: bool) -> None:
    import onnx.printer

    from fourbit_onnx.ops import sites
    from fourbit_onnx.ops.registry import FUNCTIONS

    known = {**FUNCTIONS, **sites.SITE_FUNCTIONS}
    if name not in known:
        raise click.BadParameter(f"no operator {name!r}; there are: {', '.join(known)}", param_hint="'NAME'")
    body = onnx.printer.to_text(known[name])
    if as_json:
        entries = _listing()
        entry = next(one for one in [*entries["operators"], *entries["gradients"]] if one["name"] == name)
        output.print_json(entry | {"body": body})
    else:
        click.echo(body.strip())
