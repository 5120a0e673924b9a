from fractions import Fraction

import numpy as np
import pytest
from exact import LARGEST, SMALLEST, bits
from hypothesis import given
from hypothesis import strategies as st

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import gradient_scale, log4

POWERS = range(-87, 128)


def top_of(m, threshold=2.5):
    """The smallest power of two in range with m <= threshold * power, in exact arithmetic."""
    limit = Fraction(float(np.float32(threshold)))
    return next((2.0**e for e in POWERS if Fraction(m) <= limit * Fraction(2) ** e), 2.0**127)


def test_every_power_and_its_neighbours():
    m = np.concatenate([2.5 * np.exp2(np.arange(-95.0, 127)), np.exp2(np.arange(-140.0, 128))])
    m = m[m < LARGEST].astype(np.float32)
    m = np.concatenate(
        [m, np.nextafter(m, np.float32(0)), np.nextafter(m, np.float32(LARGEST)), [SMALLEST, LARGEST]]
    )
    for number in m.astype(np.float32):
        scale = gradient_scale.dynamic([-number, number / 3])
        assert (scale, scale.dtype) == (np.float32(top_of(float(number)) / 4096), np.float32)


@pytest.mark.parametrize("threshold", [2.0, 3 / np.log(4), 2.5, 1.0])
@given(m=st.floats(SMALLEST, LARGEST, width=32))
def test_any_magnitude_and_threshold(threshold, m):
    assert gradient_scale.dynamic([m], threshold) == np.float32(top_of(m, threshold) / 4096)


@given(st.floats(float(np.float32(1e-25)), 2.0**125, width=32))
def test_the_largest_gradient_becomes_the_top_level(m):
    """By the very thresholds of log4: no saturation, and never the level below."""
    scale = gradient_scale.dynamic([m])
    assert log4.encode(m, scale) in (6, 7)
    assert m <= 2.5 * float(scale) * 4096
    assert m > 2.5 * float(scale) * 2048


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 2)])
def test_zeros_and_nothing_have_scale_one(shape):
    assert gradient_scale.dynamic(np.zeros(shape, np.float32)) == 1
    np.testing.assert_array_equal(log4.encode(np.zeros(shape), 1), np.zeros(shape))


def test_no_scale_is_below_the_divide_guard():
    assert gradient_scale.dynamic([SMALLEST]) == 2.0**-99 > 1e-30


# The state machine, with top level 4096: covered are (1.25, 2.5] * 4096.
STEPS = {
    "in the middle": (2.0, 1),
    "at the upper end": (2.5, 1),
    "just above": (float(np.nextafter(np.float32(2.5), np.float32(9))), 2),
    "far above": (1e6, 2),
    "just inside": (float(np.nextafter(np.float32(1.25), np.float32(9))), 1),
    "at the lower end": (1.25, 0.5),
    "far below": (1e-10, 0.5),
    "zeros": (0.0, 1),
}


@pytest.mark.parametrize(("m", "factor"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("top", [2.0**-80, 1.0, 4096.0, 2.0**100])
def test_learned_leaves_doubles_or_halves(m, factor, top):
    scale, after = gradient_scale.learned(np.array([0, -m * top], np.float32), top)
    assert scale == top / 4096  # this step has the old scale, whatever comes
    assert after == factor * top
    assert (scale.dtype, after.dtype) == (np.float32, np.float32)


def test_learned_begins_with_the_dynamic_level():
    for m in (1e-20, 0.3, 7.0, 1e20):
        scale, after = gradient_scale.learned([m], 0)
        assert scale == gradient_scale.dynamic([m])
        assert after == scale * 4096
    assert gradient_scale.learned([0.0], 0) == (1, 0)
    assert gradient_scale.learned(np.zeros((0, 2)), -0.0) == (1, 0)


def test_learned_stays_within_its_bounds():
    assert gradient_scale.learned([SMALLEST], 2.0**-87)[1] == 2.0**-87
    assert gradient_scale.learned([LARGEST], 2.0**115)[1] == 2.0**115
    assert gradient_scale.learned([LARGEST], 0) == (2.0**115, 2.0**115)  # the dynamic level once, 2**127
    assert gradient_scale.learned([1.0], LARGEST)[1] == 2.0**115
    assert gradient_scale.learned([1.0], 2.0**-100)[1] == 2.0**-87


def test_learned_settles_on_the_dynamic_scale():
    dy = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    for top in (2.0**-20, 2.0**20):
        for _ in range(30):
            _, top = gradient_scale.learned(dy, top)
        assert top == gradient_scale.dynamic(dy) * 4096


def test_learned_saturates_the_step_that_overflows():
    scale, after = gradient_scale.learned([100.0], 1.0)
    assert log4.decode(log4.encode([100.0], scale), scale) == 1
    assert after == 2


@pytest.mark.parametrize("threshold", [2.0, 2.164])
def test_learned_has_the_threshold_too(threshold):
    t = np.float32(threshold)
    for m, factor in ((t, 1), (np.nextafter(t, np.float32(9)), 2), (t / 2, 0.5)):
        assert gradient_scale.learned([m], 1, threshold)[1] == factor


@given(st.lists(st.floats(-1e3, 1e3, width=32), max_size=9), st.integers(-80, 100), st.randoms())
def test_order_does_not_matter(numbers, e, random):
    dy = np.array(numbers, np.float32)
    other = np.array(random.sample(numbers, len(numbers)), np.float32)
    assert bits(gradient_scale.dynamic(dy)) == bits(gradient_scale.dynamic(other))
    assert gradient_scale.learned(dy, 2.0**e) == gradient_scale.learned(other, 2.0**e)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refusals(bad):
    for rule in (gradient_scale.dynamic, lambda x: gradient_scale.learned(x, 1.0)):
        with pytest.raises(FormatError, match=rf"^gradient_scale needs finite numbers: dy\[1, 0\] is {bad}"):
            rule(np.array([[1.0], [bad]], np.float32))
    with pytest.raises(FormatError, match=f"needs a finite threshold above 0, not {bad}"):
        gradient_scale.dynamic([1.0], bad)
    for top in (bad, -1.0):
        with pytest.raises(FormatError, match=f"needs a finite top of at least 0, not {top}; 0 sets it anew"):
            gradient_scale.learned([1.0], top)
