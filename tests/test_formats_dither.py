"""The dithered scale: its table, its mean over the places of a grid, and reference, body and kernel alike."""

from decimal import Decimal, getcontext

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native import ISAS, check, needs_library, reference, run, using

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import dither, log4

F = np.float32
INVALID = ort.capi.onnxruntime_pybind11_state.InvalidArgument
CENTRES = [(k + 0.5) / 64 for k in range(64)]
NODE = {"attributes": {"factors": list(dither.FACTORS)}}


def test_the_table_is_logarithmic_over_one_period():
    getcontext().prec = 40
    exact = [1024 * Decimal(4) ** (Decimal(k) / 64) for k in range(64)]
    assert list(dither.FACTORS) == [int(value.to_integral_value()) for value in exact]
    # No libm can round another way: none is within a thousandth of a tie.
    assert min(abs(value % 1 - Decimal("0.5")) for value in exact) > Decimal("0.001")
    assert len(set(dither.FACTORS)) == 64
    assert all(1024 <= n < 4096 for n in dither.FACTORS)


@pytest.mark.parametrize("k", range(64))
def test_every_place_begins_at_its_number(k):
    below = np.nextafter(F((k + 1) / 64), F(0))
    for u in (F(k / 64), below):
        assert dither.scale(F(0.5), u) == F(dither.FACTORS[k]) / F(2048)


@pytest.mark.parametrize("u", [1.0, -0.1, np.nan, [0.1, 0.2]])
def test_what_is_no_random_number(u):
    with pytest.raises(FormatError, match="one random number"):
        dither.scale(1, u)


@pytest.mark.parametrize("u", [1.0, -(2.0**-24), -0.5, np.nan, np.inf, -np.inf])
def test_body_refuses_what_is_no_random_number(u):
    """A negative one would count from the end of the table."""
    with pytest.raises(INVALID, match="u_is_not_in_0_to_1"):
        run("DitherScale", {"scale": F(1), "u": np.array([u], F)}, (), NODE["attributes"], native=False)


@needs_library
@pytest.mark.parametrize("u", [1.0, -(2.0**-24), -0.5, np.nan, np.inf, -np.inf])
def test_kernel_refuses_what_is_no_random_number(u):
    with pytest.raises(INVALID, match=r"u must be in \[0, 1\)"):
        run("DitherScale", {"scale": F(1), "u": np.array([u], F)}, (), NODE["attributes"])


@needs_library
@pytest.mark.parametrize("attributes", [{}, {"factors": [1024] * 65537}], ids=["no table", "too long"])
def test_kernel_refuses_a_table_of_such_a_length(attributes):
    """With more than 2**24 places, the last could be one past the end."""
    with pytest.raises(Exception, match="1 to 65536 integers"):
        run("DitherScale", {"scale": F(1), "u": np.array([0], F)}, (), attributes)


@pytest.mark.parametrize("phase", [log4.EVEN, log4.ODD])
@given(exponent=st.floats(3, 11), negative=st.booleans())
def test_the_mean_of_one_gradient_over_all_places_is_the_gradient(phase, exponent, negative):
    """Q / x falls from t to t / 4 over a period and jumps back once.

    Away from the jump, the rectangles of 64 places differ from the integral by less than half a step of the
    falling curve, in all less than (t - t / 4) / 64 / 2; the place of the jump adds at most once that of one
    rectangle, (t - t / 4) / 64. Rounding the factors to 1 / 1024 moves each rectangle by 2**-11.
    """
    x = F(2.0**exponent * (-1) ** negative)
    t = log4.UNBIASED
    mean = np.mean(
        [
            float(log4.decode(log4.encode([x], s, phase, t), s, phase)[0]) / float(x)
            for s in (dither.scale(1, u) for u in CENTRES)
        ]
    )
    assert abs(mean - 1) < 1.5 * (t - t / 4) / 64 + 2**-11


def test_a_grid_that_stays_is_not_unbiased():
    """The test above can fail: at one place, the same gradient is always rounded the same way."""
    x = F(2)
    assert log4.decode(log4.encode([x], 1, 0, log4.UNBIASED), 1)[0] == 1


@pytest.mark.parametrize("scale", [2.0**-99, 0.3, 1, 2.0**100, 3e38])
@pytest.mark.parametrize("u", [0, 0.5, 63 / 64, 1 - 2**-24])
def test_body_has_the_bits_of_the_reference(scale, u):
    inputs = {"scale": F(scale), "u": np.array([u], F)}
    expected = reference("DitherScale", inputs, (), NODE["attributes"])
    found = run("DitherScale", inputs, (), NODE["attributes"], native=False)
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[0].shape == ()


@needs_library
@pytest.mark.parametrize("isa", ISAS)
def test_kernel_has_the_bits_of_the_body(isa):
    with using(isa):
        for u in (0, 0.123, 0.999, 1 - 2**-24):
            check("DitherScale", {"scale": F(0.7), "u": np.array([u], F)}, (), NODE["attributes"])
