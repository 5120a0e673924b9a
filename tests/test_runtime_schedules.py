"""Schedules, at steps whose factor can be worked out in the head."""

import pytest

from fourbit_onnx.errors import TrainingError
from fourbit_onnx.runtime import schedules
from fourbit_onnx.runtime.schedules import Constant, Cosine, Step


def test_constant():
    assert [Constant().factor(step, None) for step in (0, 1, 10**9)] == [1, 1, 1]


def test_warm_up():
    assert [Constant(warmup=4).factor(step, None) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_cosine():
    schedule = Cosine()
    assert schedule.factor(0, 12) == 1
    # (1 + cos 60°)/2: an angle up to 2.1, rounded twice, its cosine, a sum: below 7 times 2**-53, and half
    assert schedule.factor(4, 12) == pytest.approx(0.75, abs=2.0**-51)
    assert schedule.factor(6, 12) == pytest.approx(0.5, abs=2.0**-51)
    assert schedule.factor(8, 12) == pytest.approx(0.25, abs=2.0**-51)
    assert schedule.factor(12, 12) == schedule.factor(99, 12) == 0


def test_cosine_with_warm_up_and_floor():
    schedule = Cosine(warmup=2, final=0.1)
    assert [schedule.factor(step, 12) for step in (0, 1, 2)] == [0.5, 1, 1]
    assert schedule.factor(7, 12) == pytest.approx(0.55, abs=2.0**-51)  # as above
    assert schedule.factor(12, 12) == 0.1


def test_step():
    schedule = Step(milestones=(0.5, 0.75), gamma=0.5)
    assert [schedule.factor(step, 8) for step in range(9)] == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_step_with_warm_up():
    assert [Step(warmup=2).factor(step, 100) for step in range(3)] == [0.5, 1, 1]


def test_run_that_is_all_warm_up():
    for schedule in (Cosine(warmup=10), Step(warmup=10, milestones=())):
        assert [schedule.factor(step, 4) for step in range(4)] == [0.1, 0.2, 0.3, 0.4]


def test_by_name():
    assert schedules.named("cosine", 3) == Cosine(warmup=3)
    assert [schedules.named(name) for name in schedules.SCHEDULES] == [Constant(), Cosine(), Step()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.named("linear"), "no schedule 'linear'; there are: constant, cosine, step"),
        (lambda: schedules.named("step", -1), "a warm-up of -1 steps; 0 is none"),
        (
            lambda: Cosine().factor(0, None),
            "the schedule 'cosine' needs the number of steps, but the data has no length; "
            "pass data with a length, or the constant schedule",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(TrainingError) as caught:
        call()
    assert str(caught.value) == message
