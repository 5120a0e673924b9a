"""How commands print: tables and sizes for people, one JSON object for programs."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """``--json``: the result as one JSON object on stdout, and nothing else there."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")(
        command
    )


def print_json(result: Mapping[str, Any]) -> None:
    """One object, as `to_json` writes it."""
    click.echo(to_json(result))


def to_json(result: Mapping[str, Any]) -> str:
    """One object; NaN and infinity, which JSON lacks, become null."""
    return json.dumps(_plain(result), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns, two spaces apart, never cut or wrapped; those in ``right`` to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes for people: ``800 bytes``, ``12.5 KiB``."""
    if count < 1024:
        return f"{count:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024 or unit == "GiB":
            break
    return f"{count:.1f} {unit}"


def percent(share: float) -> str:
    """``98.7 %``; ``100.0 %`` is all, not nearly all."""
    return f"{min(100 * share, 99.9) if share < 1 else 100 * share:.1f} %"


def counted(count: int, noun: str) -> str:
    """``1 step``, ``2,000 steps``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def of_unit(unit: str) -> str:
    """What bytes and operations are of, from `Plan.unit`."""
    return "a batch (the model fixes its size)" if unit == "batch" else f"a {unit}"


def recomputed(count: int) -> str:
    """What ``convert --recompute`` does."""
    return f"computed again in the backward pass: {counted(count, 'input')} of batch normalisation"


def numbers(values: Mapping[str, float]) -> str:
    """``loss 0.0512, accuracy 98.3 %``."""
    return ", ".join(
        f"{name} {percent(value) if name.endswith('accuracy') else f'{value:.4g}'}"
        for name, value in values.items()
    ).replace("eval_", "test ")
