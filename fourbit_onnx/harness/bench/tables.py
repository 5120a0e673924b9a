"""A result as rows of text, and as Markdown for docs/performance.md."""

from collections.abc import Mapping, Sequence
from typing import Any

HEADER = (
    "recipe",
    "ms a step",
    "x fp32",
    "x fp16",
    "peak memory",
    "of the step",
    "stored tensors",
    "loss",
)
RIGHT = tuple(range(1, len(HEADER)))
_MEBI = 1 << 20


Table = tuple[Sequence[str], list[list[str]], Sequence[int]]  # header, rows, columns to the right


def recipes(result: Mapping[str, Any]) -> Table:
    """A row for each recipe."""
    return HEADER, [_row(row) for row in result["rows"]], RIGHT


def scaling(result: Mapping[str, Any]) -> Table:
    """A row for each recipe of each point."""
    rows = [
        [point["axis"], _option(point["value"]), *_row(row)]
        for point in result["points"]
        for row in point["rows"]
    ]
    return ("grows", "to", *HEADER), rows, (1, *(i + 2 for i in RIGHT))


def _row(row: Mapping[str, Any]) -> list[str]:
    return [
        row["recipe"],
        span(row["seconds"], 1000, ".4g"),
        *(span(row["speedup"][name], 1, ".2f") for name in ("fp32", "fp16")),
        mebibytes(row["peak_bytes"]),
        mebibytes(row["step_bytes"]),
        mebibytes(row["stored"]["activations"]),
        f"{row['first_loss']:.4g}",
    ]


def caption(result: Mapping[str, Any]) -> str:
    """What was measured, on what, when and how."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    options = ", ".join(f"{name} {_option(value)}" for name, value in result["options"].items())
    load = "" if machine["load"] is None else f", load before {machine['load']:.1f}"
    plural = "s" * (result["threads"] != 1)
    return "\n".join(
        [
            f"{result['model']}{f' ({options})' if options else ''}, batch size {result['batch_size']}, "
            f"{result['threads']} thread{plural}; {result['rounds']} rounds after {result['warmup']}.",
            f"{machine['processor']}, {machine['cores']} cores, kernels {machine['kernels']}{load}; "
            f"{machine['system']}; {versions}; {machine['date']}.",
            *(
                f"{name} is left out: there is nothing more to recompute."
                for name in result["nothing_to_recompute"]
            ),
        ]
    )


NOTE = """\
Medians, with quartiles in brackets. x fp32: how many times faster, by the ratios of rounds, in which all took
turns. Peak memory: of the process; of the step: without Python and libraries. Stored tensors: all that
the forward part gives and the backward part reads, but for parameters; not only product inputs."""


def markdown(
    result: Mapping[str, Any], header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int]
) -> str:
    """Table and caption, ready for a document."""
    command = f"`{result['command']}`: " if result["command"] else ""
    return f"{markdown_table(header, rows, right)}\n\n{command}{caption(result)}\n"


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table of GitHub's Markdown; columns in ``right`` to the right."""
    ruler = ["---:" if i in right else "---" for i in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ruler, *lines))


def mebibytes(count: int | None) -> str:
    """``123.4 MiB``; ``?`` where it is not known."""
    return "?" if count is None else f"{count / _MEBI:.1f} MiB"


def span(found: Mapping[str, float], factor: float, form: str) -> str:
    """A median with its quartiles: ``0.69 [0.68, 0.71]``."""
    median, low, high = (format(factor * found[name], form) for name in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def _option(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
