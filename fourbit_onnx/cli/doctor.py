"""``fourbit doctor``."""

import click

from fourbit_onnx.cli import output


@click.command()
@output.json_option
def command(as_json: bool) -> None:
    """Look at the installation, and test that numbers round as defined.

    Exits with 1 if something is wrong.

    \b
    Example:
      fourbit doctor
    """  # noqa: D301 -- click's own mark
    from fourbit_onnx.runtime import environment, selftest

    checks = [*environment.checks(), *selftest.rounding()]
    ok = all(check.ok for check in checks)
    if as_json:
        output.print_json(
            {
                "ok": ok,
                "versions": environment.versions(),
                "checks": [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in checks],
            }
        )
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{'ok  ' if check.ok else 'BAD '} {check.name:{width}}  {check.detail}")
        versions = ", ".join(
            f"{name} {version}" for name, version in environment.versions().items() if version
        )
        click.echo(f"\n{versions}")
    if not ok:
        raise click.ClickException(f"{sum(not check.ok for check in checks)} of {len(checks)} checks failed")
