"""``log2``: all codes, all thresholds, the scale; and levels of stochastic rounding, exactly."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import log2, stochastic
from fourbit_onnx.formats.table import FORMATS, decode

F = np.float32
LEVELS = [0, 1, 2, 4, 8, 16, 32, 64]
EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)


def test_values():
    assert [log2.value(code) for code in range(16)] == [*LEVELS, 0, *(-level for level in LEVELS[1:])]
    assert len({log2.value(code) for code in range(16)}) == 15


def test_every_level_and_threshold():
    for k, level in enumerate(LEVELS[1:]):
        threshold = F(0.75 * level)  # the midpoint of level / 2 and level
        x = np.array([threshold, np.nextafter(threshold, F(99)), level, -threshold, -level], F)
        below = k + 8 if k else 0
        assert log2.encode(x, 1).tolist() == [k, k + 1, k + 1, below, k + 9]


def test_saturation_zero_and_refusals():
    assert log2.encode(np.array([1e30, -1e30, 0, -0.0, -0.1], F), 1).tolist() == [7, 15, 0, 0, 0]
    assert log2.encode(np.zeros((2, 0), F), 0).shape == (2, 0)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(FormatError, match=r"^log2 needs finite numbers: x\[1\]"):
            log2.encode(np.array([1, bad], F), 1)
    for scale in (0, -1, np.nan, np.inf):
        with pytest.raises(FormatError, match=r"^log2 needs a finite scale above 0"):
            log2.encode(np.ones(1, F), scale)


def test_scale():
    assert log2.scale(np.array([1, -3, 2], F)) == F(3) / 64
    assert log2.scale(np.zeros(3, F)) == log2.scale(np.zeros(0, F)) == 1
    assert log2.scale(np.array([1e-40], F)) == F(1e-30)
    with pytest.raises(FormatError, match="finite"):
        log2.scale(np.array([np.nan], F))


@pytest.mark.parametrize("name", ["int4", "log2", "log4"])
def test_levels_of_stochastic_rounding(name):
    row = FORMATS[name]
    magnitudes = stochastic.levels(row)
    assert magnitudes[0] == 0
    assert list(magnitudes) == sorted({abs(v) for v in row.values if row.min <= v <= row.max})
    grid = np.array([*magnitudes, *(-m for m in magnitudes)], F)
    for u in (0, 1 - 2.0**-24):  # a level stays where it is
        codes = stochastic.encode(grid * F(0.5), 0.5, np.full_like(grid, u), row)
        np.testing.assert_array_equal(decode(codes, 1, row), grid)
    codes = stochastic.encode(np.array([1e30, -1e30], F), 1, np.zeros(2, F), row)
    assert decode(codes, 1, row).tolist() == [row.max, row.min]


number = st.floats(2.0**-20, 5000, width=32)


@EXAMPLES
@given(number, st.integers(0, 2**24 - 1), st.sampled_from(["int4", "log2", "log4"]), st.booleans())
def test_the_rule_in_fractions(m, bits, name, negative):
    """Up if u < (m - lower) / (upper - lower), the quotient rounded to float32."""
    row = FORMATS[name]
    magnitudes = stochastic.levels(row)
    u = Fraction(bits, 2**24)
    e = max(k for k in range(8) if magnitudes[k] <= m)
    if e < 7:
        share = (Fraction(m) - magnitudes[e]) / (magnitudes[e + 1] - magnitudes[e])
        # u has 24 bits, so a share within half a last place of it is the only doubt; float() decides it
        e += float(u) < F(float(share)) if u else share > 0
    x = np.array([-m if negative else m], F)
    code = stochastic.encode(x, 1, np.array([float(u)], F), row)
    assert decode(code, 1, row)[0] == (-1 if negative else 1) * magnitudes[e]


@pytest.mark.parametrize("name", ["int4", "log2", "log4"])
def test_what_becomes_zero_is_code_0(name):
    x = np.array([-0.5, -0.0, 0.0, 0.5], F)
    assert stochastic.encode(x, 1, np.full(4, 0.5, F), FORMATS[name]).tolist() == [0, 0, 0, 0]
    nibbles = stochastic.encode(x, 1, np.full(4, 0.49, F), FORMATS[name]).astype(int) & 15
    assert nibbles.tolist() == [15 if name == "int4" else 9, 0, 0, 1]


def test_refusals_of_stochastic_rounding():
    row = FORMATS["log2"]
    with pytest.raises(FormatError, match=r"^log2 needs one random number for each of \(2,\), not \(1,\)"):
        stochastic.encode(np.ones(2, F), 1, np.ones(1, F), row)
    with pytest.raises(FormatError, match="finite numbers"):
        stochastic.encode(np.array([np.nan], F), 1, np.zeros(1, F), row)
    with pytest.raises(FormatError, match="finite scale"):
        stochastic.encode(np.ones(1, F), 0, np.zeros(1, F), row)
