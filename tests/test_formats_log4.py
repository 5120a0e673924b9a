from fractions import Fraction

import numpy as np
import pytest
from exact import LARGEST, SCALES, SMALLEST, neighbours, quotient
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import log4

LEVELS = [1, 4, 16, 64, 256, 1024, 4096]

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_side=6), elements=floats)
scales = st.floats(float(np.float32(1e-30)), float(np.float32(1e30)), width=32)


def expected(x, scale):
    """Midpoints of neighbouring levels, as fractions; below the lowest level there is one at 1/4."""
    below = [Fraction(1, 4), *LEVELS]
    midpoints = [(Fraction(a) + b) / 2 for a, b in zip(below, LEVELS, strict=False)]
    codes = []
    for number, m in zip(np.ravel(x), quotient(np.abs(np.ravel(x)), scale), strict=True):
        e = sum(Fraction(float(m)) > t for t in midpoints)
        codes.append(e + 8 * (bool(number < 0) and e > 0))
    return np.reshape(codes, np.shape(x))


def test_value_is_the_definition():
    assert [log4.value(code) for code in range(16)] == [0, *LEVELS, 0, *(-v for v in LEVELS)]
    np.testing.assert_array_equal(log4.VALUES, [log4.value(code) for code in range(16)])
    assert log4.value(0b1_011) == -16


def test_thresholds_are_exact():
    assert log4.THRESHOLDS.tolist() == [0.625, 2.5, 10, 40, 160, 640, 2560]
    assert log4.thresholds(2.0).tolist() == [0.5, 2, 8, 32, 128, 512, 2048]
    assert log4.THRESHOLDS.dtype == np.float32


def test_the_threshold_is_an_argument():
    t = np.float32(2.164)
    x = np.array([t, np.nextafter(t, np.float32(9)), 16 * t, np.nextafter(16 * t, np.float32(99))])
    assert log4.encode(x, 1, threshold=t).tolist() == [1, 2, 3, 4]
    assert log4.encode(x, 1).tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("phase", [log4.EVEN, log4.ODD])
@pytest.mark.parametrize("scale", SCALES)
def test_every_threshold_and_level_and_their_neighbours(scale, phase):
    scale = np.float32(scale)
    grid = np.concatenate([log4.THRESHOLDS, LEVELS, [0, 1e5]]).astype(np.float32) * (scale * (1 + phase))
    x = neighbours(np.concatenate([grid, -grid, grid / 2]))
    x = x[np.isfinite(x) & ((x == 0) | (np.abs(x) / scale > 1e-30))]  # `quotient` is exact for normal numbers
    codes = log4.encode(x, scale, phase)
    np.testing.assert_array_equal(codes, expected(x, scale * (1 + phase)))
    assert codes.dtype == np.uint8
    assert not (codes == 0b1_000).any()


@pytest.mark.parametrize("scale", SCALES)
def test_division_not_multiplication_by_the_reciprocal(scale):
    scale = np.float32(scale)
    x = neighbours((np.float64(scale) * 0.625 * 4.0 ** np.arange(7)).astype(np.float32))
    np.testing.assert_array_equal(log4.encode(x, scale), expected(x, scale))


def test_a_threshold_itself_goes_towards_zero():
    np.testing.assert_array_equal(log4.encode(log4.THRESHOLDS, 1), range(7))
    np.testing.assert_array_equal(log4.encode(np.nextafter(log4.THRESHOLDS, np.float32(9e9)), 1), range(1, 8))
    np.testing.assert_array_equal(log4.encode(-log4.THRESHOLDS, 1), [0, *range(9, 15)])


def test_every_code_but_minus_zero_is_its_own_code():
    codes = np.array([c for c in range(16) if c != 0b1_000], np.uint8)
    for scale in (1.0, 2.0**-99, 0.1, 2.0**100):
        for phase in (log4.EVEN, log4.ODD):
            np.testing.assert_array_equal(log4.encode(log4.decode(codes, scale, phase), scale, phase), codes)
    assert log4.decode(0b1_000, 1) == 0
    assert not np.signbit(log4.decode(0b1_000, 1))


def test_the_odd_phase_is_twice_the_scale_exactly():
    assert log4.phase_scale(0.1, log4.EVEN) == np.float32(0.1)
    assert log4.phase_scale(0.1, log4.ODD) == 2 * np.float32(0.1)
    assert log4.decode(7, 1, log4.ODD) == 8192
    assert np.isinf(log4.phase_scale(2.0**127, log4.ODD))
    assert log4.encode(LARGEST, 2.0**127, log4.ODD) == 0


def test_the_mean_of_both_phases_is_a_radix_2_quantiser():
    """Levels 1.5 * 2**j between thresholds 1.25 * 2**j, where both grids have levels."""
    m = np.exp2(np.random.default_rng(2).uniform(np.log2(1.25), np.log2(2560), 20_000)).astype(np.float32)
    m = np.concatenate([m, neighbours(1.25 * np.exp2(np.arange(1, 11)))])
    mean = sum(log4.decode(log4.encode(m, 1, phase), 1, phase) for phase in (0, 1)) / 2
    j = [max(k for k in range(-1, 13) if v > 1.25 * 2.0**k) for v in m.tolist()]
    np.testing.assert_array_equal(mean, 1.5 * np.exp2(j))


def test_saturates_even_when_the_quotient_overflows():
    x = np.array([1e7, -1e7, LARGEST, -LARGEST], np.float32)
    for scale in (1.0, 1e-30, SMALLEST):
        np.testing.assert_array_equal(log4.encode(x, scale), [7, 15, 7, 15])


def test_zero_minus_zero_and_underflow_are_code_zero():
    x = [0.0, -0.0, SMALLEST, -SMALLEST, 0.625, -0.625]
    np.testing.assert_array_equal(log4.encode(x, 1), [0] * 6)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5,), (2, 3, 4)])
def test_keeps_the_shape(shape):
    codes = log4.encode(np.ones(shape, np.float32), 1)
    assert (codes.shape, codes.dtype) == (shape, np.uint8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(bad):
    for at in (0, 4):
        x = np.zeros((2, 3), np.float32)
        x.flat[at] = bad
        with pytest.raises(
            FormatError, match=rf"^log4 needs finite numbers: x\[{at // 3}, {at % 3}\] is {bad}"
        ):
            log4.encode(x, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_refuses_a_scale_that_is_none_unless_there_is_nothing_to_scale(bad):
    with pytest.raises(FormatError, match=rf"^log4 needs a finite scale above 0, not {bad}"):
        log4.encode([1.0], bad)
    assert log4.encode(np.ones((0, 2)), bad).shape == (0, 2)


@pytest.mark.parametrize("phase", [-1, 2, 0.5])
def test_refuses_a_third_phase(phase):
    with pytest.raises(FormatError, match=r"0 \(even\) or 1 \(odd\), not"):
        log4.encode([1.0], 1, phase)


@given(arrays, scales)
def test_is_the_definition_on_anything(x, scale):
    q = np.abs(np.asarray(x, np.float64) / scale)
    x = np.where((q > 1e-37) & (q < 1e38), x, np.float32(0))
    np.testing.assert_array_equal(log4.encode(x, scale), expected(x, scale))


@given(arrays, scales, st.sampled_from([0, 1]))
def test_minus_x_flips_the_sign_bit(x, scale, phase):
    codes = log4.encode(x, scale, phase)
    assert not (codes == 0b1_000).any()
    np.testing.assert_array_equal(log4.encode(-x, scale, phase), np.where(codes > 0, codes ^ 8, codes))


@given(arrays, scales, st.sampled_from([0, 1]))
def test_a_larger_number_never_decodes_smaller(x, scale, phase):
    scale = min(scale, 1e25)  # levels stay finite
    y = log4.decode(log4.encode(np.sort(x.reshape(-1)), scale, phase), scale, phase).astype(np.float64)
    assert (np.diff(y) >= 0).all()
