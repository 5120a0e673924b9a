"""Learning rates as pure functions of the step.

``factor(step, total)`` multiplies the peak rate; ``step`` counts from 0, ``total`` is the length of the run,
None if it is not known. Every schedule begins with a linear warm-up: its step k has factor (k + 1) / warmup.
"""

import ast
import dataclasses
import math
from collections.abc import Mapping
from typing import Protocol

from fourbit_onnx.errors import TrainingError


def check_rate(learning_rate: float) -> None:
    """Refuse a peak rate that is no positive number.

    Raises:
        TrainingError: It is not.
    """
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise TrainingError(f"learning rate {learning_rate}; it is a positive number, such as 0.1")


class Schedule(Protocol):
    """A learning rate over a run.

    Attributes:
        warmup: Steps of the linear warm-up.
    """

    @property
    def warmup(self) -> int: ...  # noqa: D102

    def factor(self, step: int, total: int | None) -> float:
        """What the peak rate is multiplied with at ``step``."""


@dataclasses.dataclass(frozen=True)
class Constant:
    """The peak rate throughout.

    Attributes:
        warmup: Steps of the linear warm-up.
    """

    warmup: int = 0

    def factor(self, step: int, total: int | None) -> float:
        """What the peak rate is multiplied with at ``step``."""
        return _warm_up(step, self.warmup)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Half a cosine from the peak rate down to ``final`` times it, which step ``total`` would have.

    Attributes:
        warmup: Steps of the linear warm-up, before the cosine begins.
        final: The last factor.
    """

    warmup: int = 0
    final: float = 0.0

    def factor(self, step: int, total: int | None) -> float:
        """What the peak rate is multiplied with at ``step``."""
        if step < self.warmup:
            return _warm_up(step, self.warmup)
        length = max(1, _known(total, "cosine") - self.warmup)
        share = min(1.0, (step - self.warmup) / length)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * share))


@dataclasses.dataclass(frozen=True)
class Step:
    """The peak rate, multiplied by ``gamma`` at each milestone.

    Attributes:
        milestones: Shares of the run, each within 0..1.
        gamma: The factor of one milestone.
        warmup: Steps of the linear warm-up.
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    warmup: int = 0

    def factor(self, step: int, total: int | None) -> float:
        """What the peak rate is multiplied with at ``step``."""
        length = _known(total, "step")
        passed = sum(step >= share * length for share in self.milestones)
        return _warm_up(step, self.warmup) * self.gamma**passed


SCHEDULES: Mapping[str, type[Constant] | type[Cosine] | type[Step]] = {
    "constant": Constant,
    "cosine": Cosine,
    "step": Step,
}


def named(name: str, warmup: int = 0) -> Schedule:
    """The schedule called ``name``.

    Raises:
        TrainingError: There is none.
    """
    if name not in SCHEDULES:
        raise TrainingError(f"no schedule {name!r}; there are: {', '.join(SCHEDULES)}")
    if warmup < 0:
        raise TrainingError(f"a warm-up of {warmup} steps; 0 is none")
    return SCHEDULES[name](warmup=warmup)


def restored(text: str) -> Schedule | None:
    """The schedule whose ``repr`` is ``text``; None if it is none of these."""
    try:
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            return SCHEDULES[call.func.id.lower()](**options)
    except (SyntaxError, ValueError, KeyError, TypeError):
        pass
    return None


def _warm_up(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0


def _known(total: int | None, name: str) -> int:
    if total is None:
        raise TrainingError(
            f"the schedule {name!r} needs the number of steps, but the data has no length; "
            "pass data with a length, or the constant schedule"
        )
    return total
