"""absmax, sawb, minmax: scale rules of weights and activations."""

import math

import numpy as np
import pytest
from exact import LARGEST, SMALLEST, bits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import absmax, integer, minmax, sawb
from fourbit_onnx.formats.guard import guard
from fourbit_onnx.formats.table import FORMATS, decode

RULES = {"absmax": absmax.scale, "sawb": sawb.scale, "minmax": lambda x: minmax.scale(x)[0]}
TINY = np.float32(1e-30)

rules = pytest.mark.parametrize("name", RULES)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_side=6), elements=floats)


@rules
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (2, 3)])
def test_zeros_and_nothing_have_scale_one(name, shape):
    for x in (np.zeros(shape, np.float32), np.full(shape, -0.0, np.float32)):
        scale = RULES[name](x)
        assert (scale, scale.dtype) == (1, np.float32)


@rules
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(name, bad):
    for at in (0, 5):
        x = np.ones((2, 3), np.float32)
        x.flat[at] = bad
        with pytest.raises(
            FormatError, match=rf"^{name} needs finite numbers: .\[{at // 3}, {at % 3}\] is {bad}"
        ):
            RULES[name](x)


@rules
def test_the_only_floor_is_the_divide_guard(name):
    assert RULES[name](np.array([1e-35, -3e-36], np.float32)) == TINY
    assert RULES[name](np.array([SMALLEST, -SMALLEST], np.float32)) == TINY
    assert 0 < RULES[name](np.array([1e-20, -3e-21], np.float32)) < 1e-19
    assert guard(np.float32(0)) == TINY
    assert guard(np.nextafter(TINY, np.float32(1))) > TINY


@rules
@given(x=arrays)
def test_the_order_of_elements_does_not_matter(name, x):
    flat = x.reshape(-1)
    rng = np.random.default_rng(flat.size)
    assert bits(RULES[name](rng.permutation(flat))) == bits(RULES[name](x))
    assert bits(RULES[name](np.concatenate([flat[::2], flat[1::2]]))) == bits(RULES[name](x))


def test_order_does_not_matter_for_many_elements():
    """Where float sums would differ: 300,000 numbers over twelve powers of ten."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(300_000) * 10 ** rng.uniform(-9, 3, 300_000)).astype(np.float32)
    found = {
        sawb.scale(y).tobytes() for y in (x, x[::-1], np.sort(x), rng.permutation(x), x.reshape(600, -1).T)
    }
    assert len(found) == 1


# --- absmax


@given(arrays)
def test_absmax_is_a_seventh_of_the_largest(x):
    m = max((abs(float(v)) for v in x.reshape(-1)), default=0.0)
    expected = np.float32(1) if m == 0 else np.float32(max(np.float32(m / 7), TINY))
    assert bits(absmax.scale(x)) == bits(expected)


def test_absmax_gives_the_largest_the_top_code():
    x = np.random.default_rng(0).standard_normal((1000, 17)).astype(np.float32)
    for row in x:
        codes = integer.encode(row, absmax.scale(row), FORMATS["int4"])
        assert abs(codes[np.abs(row).argmax()]) == 7


# --- sawb


def test_the_table_of_coefficients():
    rows = {(row.bits, row.levels): (row.c1, row.c2) for row in sawb.LAYOUTS.values()}
    assert rows == {
        (2, 4): (3.12, 2.064),
        (2, 3): (2.6, 1.71),
        (3, 8): (7.509, 6.892),
        (4, 15): (12.035, 12.03),
        (4, 16): (12.68, 12.80),
        (8, 255): (31.76, 35.04),
    }
    assert {row.levels: row.steps for row in sawb.LAYOUTS.values()} == {
        3: 1,
        4: 1.5,
        8: 3.5,
        15: 7,
        16: 7.5,
        255: 127,
    }
    assert all(levels == row.levels for levels, row in sawb.LAYOUTS.items())
    with pytest.raises(FormatError, match="no row for 5 levels; there are: 4, 3, 8, 15, 16, 255"):
        sawb.clip([1.0], 5)


def fixed_point_clip(w, c1, c2):
    """The contract, an element at a time, Python integers and floats only."""
    m = max(abs(float(v)) for v in w)
    u = [round(float(np.float32(abs(float(v)) / m)) * 65536) for v in w]
    s1, s2 = sum(u), sum(v * v for v in u)
    a = m * (c1 * math.sqrt(s2 / len(u) * 2.0**-32) - c2 * (s1 / len(u) * 2.0**-16))
    return np.float32(m if a < m / 16 else a)


@pytest.mark.parametrize("levels", sawb.LAYOUTS)
@pytest.mark.parametrize("scale", [1e-25, 0.02, 3.0, 1e30])
@pytest.mark.parametrize("count", [2, 3, 100, 4097])
def test_sawb_is_the_definition(levels, scale, count):
    row = sawb.LAYOUTS[levels]
    for kind in ("standard_normal", "standard_cauchy", "random"):
        w = (getattr(np.random.default_rng(count), kind)(count) * scale).astype(np.float32)
        expected = fixed_point_clip(w, row.c1, row.c2)
        assert bits(sawb.clip(w, levels)) == bits(expected)
        assert bits(sawb.scale(w, levels)) == bits(max(expected / np.float32(row.steps), TINY))


@pytest.mark.parametrize("levels", sawb.LAYOUTS)
def test_fixed_point_is_close_to_the_moments(levels):
    """``|alpha - (c1 rms - c2 mean)| <= (c1 + c2) * d + 2**-24 * alpha``.

    Every ratio to m is off by at most d/m = (1/2 + 2**-8) * 2**-16: half a unit by rounding to 16 bits, and
    the float32 division's 2**-24 relative, of at most 65536 units. So is the mean of ratios, and so is
    their root mean square (triangle inequality of the norm). The last term: alpha's rounding to float32.
    """
    row = sawb.LAYOUTS[levels]
    w = np.random.default_rng(5).standard_normal(100_000).astype(np.float32)
    wide = w.astype(np.float64)
    expected = row.c1 * np.sqrt(np.mean(wide**2)) - row.c2 * np.mean(np.abs(wide))
    d = (0.5 + 2.0**-8) * 2.0**-16 * np.abs(wide).max()
    assert abs(float(sawb.clip(w, levels)) - expected) <= (row.c1 + row.c2) * d + 2.0**-24 * expected


def test_two_valued_weights_are_clipped_at_the_largest():
    w = np.tile(np.array([0.25, -0.25], np.float32), 50)
    assert sawb.clip(w) == 0.25  # 12.035 - 12.03 of it without the rule
    assert sawb.scale(w) == np.float32(0.25) / np.float32(7)
    nearly = w * 1.01 ** np.arange(
        100, dtype=np.float32
    )  # and so with a spread that leaves alpha below m / 16
    assert sawb.clip(nearly[:8]) == np.abs(nearly[:8]).max()


@pytest.mark.parametrize(("p", "replaced"), [(0.99, False), (0.991, True), (0.999, True)])
def test_the_rule_for_small_clips_begins_at_a_sixteenth(p, replaced):
    """A share p of ones among zeros: rms = sqrt(p), mean = p, so alpha is known: 0.0650, 0.0585, 0.0110."""
    w = (np.arange(100_000) < round(p * 100_000)).astype(np.float32)
    alpha = 12.035 * math.sqrt(p) - 12.03 * p
    assert (alpha < 1 / 16) == replaced
    assert sawb.clip(w) == np.float32(1 if replaced else alpha)


def test_sparse_weights_may_have_a_clip_above_the_largest():
    """One of four: 12.035 / 2 - 12.03 / 4 = 3.01 times the largest. The rule has no upper bound."""
    assert sawb.clip(np.array([1, 0, 0, 0], np.float32)) == np.float32(12.035 / 2 - 12.03 / 4)
    assert np.isinf(sawb.scale(np.array([LARGEST, 0, 0, 0], np.float32)))


@pytest.mark.parametrize("power", [-60, -1, 1, 60])
def test_sawb_scales_with_powers_of_two(power):
    w = np.random.default_rng(8).standard_normal(999).astype(np.float32)
    assert sawb.scale(w * np.float32(2.0**power)) == sawb.scale(w) * np.float32(2.0**power)


# --- minmax


def encode(x):
    scale, zero_point = minmax.scale(x)
    codes = integer.encode(x, scale, FORMATS["int4_full"], int(zero_point))
    return codes, decode(codes, scale, FORMATS["int4_full"], int(zero_point))


def test_the_example_of_the_unit_interval():
    x = np.array([0, 1, 0.3], np.float32)
    scale, zero_point = minmax.scale(x)
    assert (scale, zero_point) == (np.float32(1 / 15), -8)
    assert (scale.dtype, zero_point.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(encode(x)[0], [-8, 7, -4])


@pytest.mark.parametrize("c", [1.0, -1.0, 0.3, -1e-29, 1e-30, 0.0, LARGEST, -LARGEST])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_a_constant_survives_exactly(c, shape):
    x = np.full(shape, c, np.float32)
    codes, y = encode(x)
    np.testing.assert_array_equal(bits(y), bits(x))
    assert (codes == np.sign(c)).all()
    assert minmax.scale(x)[1] == 0


def test_a_constant_below_the_divide_guard_is_rounded():
    np.testing.assert_array_equal(encode(np.full(3, 1e-31, np.float32))[1], 0)


def test_the_range_may_exceed_float32():
    codes, y = encode(np.array([LARGEST, -LARGEST, 0], np.float32))
    np.testing.assert_array_equal(codes, [7, -8, 0])
    assert y.tolist() == [np.float32(7 * (2 * LARGEST / 15)), -np.inf, 0]  # the lowest level, by IEEE


def test_the_scale_is_rounded_once():
    """The double quotient, not the float32 difference's: they differ for about half of all pairs."""
    x = np.random.default_rng(4).standard_normal((2000, 2)).astype(np.float32)
    expected = np.abs(x[:, 0].astype(np.float64) - x[:, 1]) / 15
    found = np.array([minmax.scale(pair)[0] for pair in x])
    np.testing.assert_array_equal(bits(found), bits(expected.astype(np.float32)))
    assert (found != np.abs(x[:, 0] - x[:, 1]) / np.float32(15)).sum() > 100


def test_a_narrow_range_far_from_zero_bounds_the_zero_point():
    x = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    scale, zero_point = minmax.scale(x)
    assert scale == np.float32(np.float64(x[1]) * 2.0**-16)
    assert zero_point == -65544
    scale, zero_point = minmax.scale(-x)
    assert (scale, zero_point) == (np.float32(np.float64(x[1]) * 2.0**-16), 65528)


@given(arrays)
def test_minmax_covers_the_range(x):
    scale, zero_point = minmax.scale(x)
    assert 1e-30 * (1 - 1e-6) <= scale < np.inf
    assert abs(int(zero_point)) <= 2**16 + 8
    if x.size and x.min() < x.max():
        codes, _ = encode(x)
        assert codes.max() == 7 or scale > (float(x.max()) - float(x.min())) / 15 * (1 + 1e-6)
        assert (np.diff(codes.reshape(-1)[np.argsort(x.reshape(-1), kind="stable")].astype(int)) >= 0).all()


def test_error_is_at_most_a_step():
    """Half a step by rounding, half by the rounding of the zero point, where the range is not stretched."""
    rng = np.random.default_rng(6)
    for _ in range(200):
        x = (rng.standard_normal(50) * rng.uniform(0.1, 5) + rng.uniform(-3, 3)).astype(np.float32)
        _, y = encode(x)
        assert np.abs(y - x).max() <= minmax.scale(x)[0] * (1 + 1e-5)
