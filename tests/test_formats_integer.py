import numpy as np
import pytest
from exact import LARGEST, SCALES, SMALLEST, half_even, neighbours, quotient
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import integer
from fourbit_onnx.formats.table import FORMATS, decode

ROWS = [FORMATS[name] for name in ("int4", "int4_full", "uint4")]
IDS = [row.name for row in ROWS]
DTYPES = {"int4": np.int8, "int4_full": np.int8, "uint4": np.uint8}

everywhere = pytest.mark.parametrize("row", ROWS, ids=IDS)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_side=6), elements=floats)
scales = st.floats(float(np.float32(1e-30)), float(np.float32(1e30)), width=32)


def expected(x, scale, row, zero_point=0):
    """One element at a time, in exact arithmetic."""
    q = quotient(x, scale).reshape(-1)
    codes = [max(row.min, min(row.max, half_even(v) + zero_point)) for v in q]
    return np.reshape(codes, np.shape(x))


def edges(scale):
    """Every level and every midpoint from beyond the lowest to beyond the highest, and their neighbours."""
    return neighbours(np.arange(-18, 18.5, 0.5).astype(np.float32) * np.float32(scale))


@everywhere
@pytest.mark.parametrize("scale", SCALES)
def test_every_level_and_midpoint(row, scale):
    scale = np.float32(scale)
    for zero_point in (0,) if row.name != "int4_full" else (0, 5, -8, -70000, 2**17):
        codes = integer.encode(edges(scale), scale, row, zero_point)
        np.testing.assert_array_equal(codes, expected(edges(scale), scale, row, zero_point))
        assert codes.dtype == DTYPES[row.name]


@everywhere
@pytest.mark.parametrize("scale", SCALES)
def test_division_not_multiplication_by_the_reciprocal(row, scale):
    """Quotients next to midpoints, by random numbers: where a reciprocal's rounding would show."""
    scale = np.float32(scale)
    rng = np.random.default_rng(7)
    halves = rng.integers(-17, 17, 2000) + 0.5
    x = neighbours((halves * np.float64(scale)).astype(np.float32))
    np.testing.assert_array_equal(integer.encode(x, scale, row), expected(x, scale, row))


@everywhere
def test_ties_go_to_the_even_code(row):
    x = np.array([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5], np.float32)
    np.testing.assert_array_equal(integer.encode(x, 1, row), [0, 2, 2, 4, 4, 6, 6])
    np.testing.assert_array_equal(
        integer.encode(-x, 1, row), np.clip([0, -2, -2, -4, -4, -6, -6], row.min, row.max)
    )


@everywhere
def test_saturates_even_when_the_quotient_overflows(row):
    x = np.array([1e6, -1e6, LARGEST, -LARGEST], np.float32)
    for scale in (1.0, 1e-30, SMALLEST):
        np.testing.assert_array_equal(integer.encode(x, scale, row), [row.max, row.min] * 2)
    np.testing.assert_array_equal(integer.encode(x[2:], SMALLEST, row, -3), [row.max, row.min])


@everywhere
def test_zero_and_minus_zero_are_code_zero(row):
    np.testing.assert_array_equal(integer.encode([0.0, -0.0, SMALLEST, -SMALLEST], 1, row), [0, 0, 0, 0])
    np.testing.assert_array_equal(integer.encode([0.0, -0.0], 1, row, 2), [2, 2])


def test_int4_full_has_minus_eight_and_int4_has_not():
    assert integer.encode(-100, 1, FORMATS["int4_full"]) == -8
    assert integer.encode(-100, 1, FORMATS["int4"]) == -7


@everywhere
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5,), (2, 3, 4)])
def test_keeps_the_shape(row, shape):
    codes = integer.encode(np.ones(shape, np.float32), 1, row)
    assert codes.shape == shape
    assert codes.dtype == DTYPES[row.name]


@everywhere
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(row, bad):
    for at in (0, 1, 5):
        x = np.zeros((2, 3), np.float32)
        x.flat[at] = bad
        with pytest.raises(
            FormatError, match=rf"^{row.name} needs finite numbers: x\[{at // 3}, {at % 3}\] is {bad}"
        ):
            integer.encode(x, 1, row)


@everywhere
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0])
def test_refuses_a_scale_that_is_none_unless_there_is_nothing_to_scale(row, bad):
    with pytest.raises(FormatError, match=rf"^{row.name} needs a finite scale above 0, not {bad}"):
        integer.encode(np.ones(3), bad, row)
    assert integer.encode(np.ones(0), bad, row).shape == (0,)


@given(arrays, scales)
def test_is_the_definition_on_anything(x, scale):
    """Where the quotient is a normal number; ``quotient`` is exact only there."""
    q = np.abs(np.asarray(x, np.float64) / scale)
    x = np.where((q > 1e-37) & (q < 1e38), x, np.float32(0))
    for row in ROWS:
        np.testing.assert_array_equal(integer.encode(x, scale, row), expected(x, scale, row))


@given(arrays, scales)
def test_codes_are_fixed_points_and_int4_is_odd(x, scale):
    for row in ROWS:
        codes = integer.encode(x, scale, row)
        assert codes.min(initial=row.min) >= row.min
        assert codes.max(initial=row.max) <= row.max
        np.testing.assert_array_equal(integer.encode(decode(codes, scale, row), scale, row), codes)
    row = FORMATS["int4"]
    np.testing.assert_array_equal(integer.encode(-x, scale, row), -integer.encode(x, scale, row))


@given(arrays, scales)
def test_a_larger_number_never_has_a_smaller_code(x, scale):
    for row in ROWS:
        assert (np.diff(integer.encode(np.sort(x.reshape(-1)), scale, row).astype(int)) >= 0).all()
