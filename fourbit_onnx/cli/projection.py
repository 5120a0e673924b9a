"""How ``fourbit inspect --project`` shows a projection: every heading and key says that it is one."""

import dataclasses
import textwrap
from typing import Any

import click

from fourbit_onnx.cli import output
from fourbit_onnx.recipes.projection import KEPT, OMITTED, Projection

_TITLE = "projected from published figures, not measured; all in FP16 = 1"
_WIDTH = 80


def fields(found: Projection) -> dict[str, Any]:
    """The projection as a JSON object."""
    return {
        "note": _TITLE,
        "phases": [
            {
                "phase": phase.name,
                "macs": phase.macs,
                "share": phase.share,
                "projected_time": phase.time,
                "projected_energy": phase.energy,
            }
            for phase in found.phases
        ],
        "projected_time": found.time,
        "projected_energy": found.energy,
        "projected_speedup": 1 / found.time,
        "projected_speedup_bound": _times(1, found.kept.time),
        "projected_energy_saving": 1 / found.energy,
        "projected_energy_saving_bound": _times(1, found.kept.energy),
        "sites_left_out": found.unknown,
        "figures": {row: dataclasses.asdict(figure) for row, figure in found.figures.items()},
        "not_projected": list(OMITTED),
    }


def show(found: Projection) -> None:
    """Print the projection."""
    rows = [
        [
            phase.name if phase.name == KEPT else f"{phase.name}, 4-bit",
            output.percent(phase.share),
            f"{phase.time:.4f}",
            f"{phase.energy:.4f}",
            _factor(phase.share, phase.time),
            _factor(phase.share, phase.energy),
        ]
        for phase in found.phases
    ]
    savings = _factor(1, found.time), _factor(1, found.energy)
    rows.append(["total", output.percent(1), f"{found.time:.4f}", f"{found.energy:.4f}", *savings])
    click.echo()
    _say(f"The products of a training step on 4-bit hardware, {_TITLE}:")
    click.echo()
    header = ["projected", "MACs", "time", "energy", "faster", "less energy"]
    click.echo(output.table(header, rows, right=(1, 2, 3, 4, 5)))
    click.echo()
    if found.kept.macs:
        _say(
            "Projected bound: because of what stays in high precision, no 4-bit products, however fast, "
            f"bring the total beyond {_factor(1, found.kept.time)} in time and "
            f"{_factor(1, found.kept.energy)} in energy."
        )
    if found.twice:
        _say(
            f"Counted twice: products of {' and '.join(found.twice)} that read a gradient in both phases, or "
            "in two draws, are two on 4-bit hardware."
        )
    if found.unknown:
        _say(f"Left out of the projection, because their sizes are unknown: {found.unknown} sites.")
    click.echo("\nprojected with these figures for one multiply-accumulate, FP16 = 1:")
    for row, figure in found.figures.items():
        click.echo(f"  {row}: time {figure.time:.4g}, energy {figure.energy:.4g}")
        _say(figure.derivation, "    ")
        _say(f"from: {figure.source}", "    ")
    click.echo("not projected:")
    for omitted in OMITTED:
        _say(omitted, "    ", "  - ")


def _say(text: str, indent: str = "", first: str | None = None) -> None:
    click.echo(
        textwrap.fill(
            text,
            _WIDTH,
            initial_indent=indent if first is None else first,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _times(before: float, after: float) -> float | None:
    return before / after if after else None


def _factor(before: float, after: float) -> str:
    """``7.0x``; "" where nothing is."""
    found = _times(before, after)
    return "" if found is None else f"{found:.1f}x"
