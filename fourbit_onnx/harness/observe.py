"""What the quantisers of a run do, after some of its epochs."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fourbit_onnx.harness.probe import Probe
from fourbit_onnx.runtime.trainer import Trainer

MOST = 8  # observations of a run
_MEANS = ("zeros", "underflow", "saturated", "scale")


class Observer:
    """Measures on one fixed batch.

    Args:
        trainer: Whose state is measured.
        batch: One batch.
        epochs: Of the run.
    """

    def __init__(self, trainer: Trainer, batch: Mapping[str, Any], epochs: int) -> None:
        self._trainer = trainer
        self.epochs = chosen(epochs)
        self._probe = Probe(trainer.folder, batch)

    def look(self, epoch: int) -> dict[str, Any]:
        """The observation after ``epoch``."""
        seen = self._probe.measure(self._trainer.state.tensors)
        return {"epoch": epoch, **seen, "quantizers": merged(seen["quantizers"])}


def merged(quantizers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The quantisers with like sites of a group as one: the steps of a recurrent product are hundreds.

    It has the group as its ``site``, ``steps`` says how many it stands for. Shares, ``scale`` and ``snr_db``
    (where known) are means over them, ``codes`` sums.
    """
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in quantizers:
        key = ("group", one["group"]) if one["group"] else ("site", one["site"])
        found.setdefault((*key, one["point"], one["format"], one["scale_rule"]), []).append(one)
    return [dict(alike[0]) if len(alike) == 1 else _one(alike) for alike in found.values()]


def _one(alike: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, known = alike[0], [one["snr_db"] for one in alike if one["snr_db"] is not None]
    return {
        **{key: first[key] for key in ("group", "point", "format", "scale_rule")},
        "site": first["group"],
        "steps": len(alike),
        "snr_db": statistics.fmean(known) if known else None,
        **{key: statistics.fmean(one[key] for one in alike) for key in _MEANS},
        "codes": [sum(counts) for counts in zip(*(one["codes"] for one in alike), strict=True)],
    }


def chosen(epochs: int) -> frozenset[int]:
    """The first epoch, the last, and up to six between, evenly."""
    count = min(MOST, epochs)
    return frozenset(round(i * (epochs - 1) / max(1, count - 1)) for i in range(count))
