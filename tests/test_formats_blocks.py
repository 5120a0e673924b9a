"""Block formats against exact arithmetic: E2M1, E4M3, the three scale rules, the Hadamard transform."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from exact import F32, neighbours
from hypothesis import given, settings
from hypothesis import strategies as st

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import block_int4, block_scales, blocks, e2m1, e4m3, hadamard

EXAMPLES = settings(max_examples=50, deadline=None, derandomize=True)
MAGNITUDES = (0, 1, 2, 3, 4, 6, 8, 12)  # codes 0..7 in halves
RULES = {"nvfp4": block_scales.nvfp4, "mxfp4": block_scales.mxfp4, "block16": block_scales.block16}


def matrices(most=70):
    def draw(shape, seed, spread):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))
        return np.where(rng.random(shape) < 0.1, 0, x).astype(F32)

    return st.builds(
        draw,
        st.tuples(st.integers(1, 40), st.integers(1, most)),
        st.integers(0, 2**32),
        st.sampled_from([0.0, 3.0, 12.0]),
    )


# ---------------------------------------------------------------------------------------------------- E2M1


def nearest_code(r):
    """The nearest level to a Fraction of at least 0, the even code of two."""
    return min(range(8), key=lambda code: (abs(r - MAGNITUDES[code]), code % 2))


def test_the_values_of_e2m1():
    assert [e2m1.value(code) for code in range(16)] == [*MAGNITUDES, 0, *(-v for v in MAGNITUDES[1:])]


@pytest.mark.parametrize("half", [1.0, 0.5, 2.0**-90, 0.3, 1.7e-5])
def test_e2m1_rounds_to_nearest_and_ties_to_the_even_code(half):
    x = neighbours(np.arange(0, 60) / 4 * half)
    with np.errstate(over="ignore"):
        ratios = np.abs(x) / F32(half)  # one rounding of float32; what follows is exact
    expected = [nearest_code(Fraction(float(r))) for r in ratios]
    np.testing.assert_array_equal(e2m1.encode(np.abs(x), half), expected)
    negative = [code + 8 if code else 0 for code in expected]
    np.testing.assert_array_equal(e2m1.encode(-np.abs(x), half), negative)


def test_e2m1_saturates_at_six():
    assert e2m1.encode([12.1, 14, 1e38, -1e38], 1).tolist() == [7, 7, 7, 15]
    assert e2m1.encode([3e38], 1e-30).tolist() == [7]  # the quotient is infinite
    assert e2m1.encode([12.1, 3e38], 1e-20, [0.0, 0.0]).tolist() == [7, 7]


@pytest.mark.parametrize("encode", [e2m1.encode, block_int4.encode])
@pytest.mark.parametrize("stochastic", [False, True])
def test_fifteen_values_no_more(encode, stochastic):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(100_000) * np.exp2(np.linspace(-8, 8, 100_000))
    codes = encode(x, 1, rng.random(x.shape) if stochastic else None)
    assert len(np.unique(codes)) == 15
    assert 0b1000 not in codes  # never minus zero
    assert -8 not in codes


@pytest.mark.parametrize(("encode", "top"), [(e2m1.encode, 12), (block_int4.encode, 7)])
def test_stochastic_rounding_is_unbiased(encode, top):
    """The mean of n draws between levels lo < r < hi has the standard error sqrt((hi-r)(r-lo)/n)."""
    n, table = 40_000, np.array([e2m1.value(c) for c in range(16)])
    levels = np.array(MAGNITUDES if top == 12 else range(8))
    rng = np.random.default_rng(5)
    for r in [*rng.uniform(-top, top, 20), 0.01, 4.5, 0.0, top]:
        codes = encode(np.full(n, r), 1, rng.random(n))
        found = table[codes] if top == 12 else codes
        low = levels[levels <= abs(r)].max()
        high = levels[levels >= abs(r)].min()
        deviation = np.sqrt((high - abs(r)) * (abs(r) - low) / n)
        assert set(np.abs(found)) <= {low, high}
        assert abs(found.mean() - r) <= 4 * deviation + 2.0**-20


@pytest.mark.parametrize("encode", [e2m1.encode, block_int4.encode])
def test_refusals_of_encoders(encode):
    for bad in (np.nan, np.inf):
        with pytest.raises(FormatError, match=r"needs finite numbers: x\[1\]"):
            encode([1, bad], 1)
    for bad in (np.nan, np.inf, 0, -1):
        with pytest.raises(FormatError, match="block scale above 0"):
            encode([1, 1], [1, bad])
    assert encode(np.zeros((0, 3)), 0).shape == (0, 3)


# ---------------------------------------------------------------------------------------------------- E4M3


def every_e4m3():
    """All positive numbers of the format from its fields; the code of all ones is NaN."""
    subnormal = [Fraction(m, 8) / 64 for m in range(1, 8)]
    normal = [(1 + Fraction(m, 8)) * Fraction(2) ** (e - 7) for e in range(1, 16) for m in range(8)]
    return subnormal + normal[:-1]


def test_e4m3_has_its_126_numbers_in_units():
    numbers = [int(n * 512) for n in every_e4m3()]
    assert len(numbers) == 126
    assert numbers[-1] == e4m3.TOP == 448 * 512
    found = e4m3.units(np.arange(0, 230_000, dtype=np.float32) / F32(512))
    assert np.unique(found).tolist() == numbers


@pytest.mark.parametrize("up", [False, True])
def test_e4m3_rounds_to_nearest_even_or_up(up):
    numbers = every_e4m3()
    middles = [(a + b) / 2 for a, b in itertools.pairwise(numbers)]
    r = neighbours([float(n) for n in [*numbers, *middles, Fraction(600)]])
    for value, found in zip(r, e4m3.units(r, up=up), strict=True):
        exact = Fraction(float(value))
        if up:
            expected = next((n for n in numbers if n >= exact), numbers[-1])
        else:
            # index + 1 is the code, whose lowest bit is that of the mantissa
            at = min(range(126), key=lambda i: (abs(numbers[i] - exact), (i + 1) % 2))
            expected = numbers[at]
        assert int(found) == expected * 512, value


# ---------------------------------------------------------------------------------------------------- scales


def test_the_outer_scale_of_nvfp4():
    """2688 = 6 * 448: the largest element has block scale 448 and code 6, whatever the rest is."""
    x = np.random.default_rng(2).standard_normal((64, 64)).astype(F32)
    x[3, 40] = -7.25
    scales, unit = block_scales.nvfp4(x)
    assert scales.max() == scales[3, 2] == 448 * 512
    assert unit == F32(7.25) / F32(2688) * F32(2.0**-10)
    assert e2m1.encode(x, blocks.steps(scales, unit, 16, 64))[3, 40] == 15


@EXAMPLES
@given(matrices(), st.sampled_from(sorted(RULES)), st.sampled_from([16, 32]), st.sampled_from([1, 16]))
def test_scales_are_integers_of_the_contract(x, rule, size, rows):
    scales, unit = RULES[rule](x, size=size, rows=rows)
    assert scales.dtype == np.int32
    assert scales.shape == (x.shape[0], -(-x.shape[1] // size))
    assert scales.min() >= 1
    assert scales.max() <= 2**18
    assert unit.dtype == np.float32
    assert unit > 0
    if rows == 16:  # the transposed tensor has the transposed scales: one number a square of 16 x 16
        squares = np.repeat(scales[::16], 16, axis=0)[: len(scales)]
        np.testing.assert_array_equal(scales, squares)


@EXAMPLES
@given(matrices(), st.sampled_from(["nvfp4", "block16"]))
def test_square_blocks_serve_both_orientations(x, rule):
    scales, unit = RULES[rule](x, rows=16)
    turned, same = RULES[rule](x.T, rows=16)
    assert unit == same
    np.testing.assert_array_equal(
        blocks.for_elements(scales, 16, x.shape[1]), blocks.for_elements(turned, 16, x.shape[0]).T
    )
    encode = e2m1.encode if rule == "nvfp4" else block_int4.encode
    codes = encode(x, blocks.steps(scales, unit, 16, x.shape[1]))
    np.testing.assert_array_equal(codes, encode(x.T, blocks.steps(turned, unit, 16, x.shape[0])).T)


@EXAMPLES
@given(matrices(), st.sampled_from(["nvfp4", "mxfp4", "block16"]), st.sampled_from([1, 16]))
def test_nothing_saturates_where_rounding_is_stochastic(x, rule, rows):
    """To 2**-21: the divisions that lead to a scale round, each by 2**-24."""
    scales, unit = (
        block_scales.nvfp4(x, rows=rows, up=True) if rule == "nvfp4" else RULES[rule](x, size=16, rows=rows)
    )
    steps = blocks.steps(scales, unit, 16, x.shape[1])
    assert (np.abs(x) / steps).max() <= (7 if rule == "block16" else 12) * (1 + 2.0**-21)


@EXAMPLES
@given(matrices())
def test_mxfp4_is_the_least_power_of_two(x):
    scales, unit = block_scales.mxfp4(x)
    b = blocks.maxima(x, 32).astype(np.float64)
    scale = scales * np.float64(unit) * 2  # of a whole level
    assert (np.log2(scale) % 1 == 0).all()
    assert (b <= 6 * scale).all()
    not_least = (b <= 3 * scale) & (scales > 1)
    assert not not_least.any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-38, 1e-31, 1.0, 3.4028235e38])
def test_scales_of_extremes(rule, value):
    x = np.full((2, 5), value, F32)
    scales, unit = RULES[rule](x)
    steps = blocks.steps(scales, unit, 32 if rule == "mxfp4" else 16, 5)
    assert np.isfinite(steps).all()
    assert (steps > 0).all()
    if value == 0:
        assert (scales == 1).all()


@pytest.mark.parametrize("rule", RULES)
def test_scales_of_what_is_empty_or_refused(rule):
    for shape in ((0, 5), (3, 0), (2, 0, 4)):
        scales, _ = RULES[rule](np.zeros(shape))
        assert scales.shape == (*shape[:-1], 1 if shape[-1] else 0)
    with pytest.raises(FormatError, match="finite"):
        RULES[rule]([[1, np.nan]])
    with pytest.raises(FormatError, match="at least two dimensions"):
        RULES[rule]([1.0, 2.0])


# ------------------------------------------------------------------------------------------------ Hadamard


def test_hadamard_is_orthonormal():
    """Exactly: the elements of H are +-1/4, and 16 of their products sum to 0 or 1."""
    h = hadamard.transform(np.eye(16))
    assert set(np.abs(h).ravel()) == {0.25}
    np.testing.assert_array_equal(h @ h.T, np.eye(16))
    i = np.arange(16)
    sylvester = np.array([[(-1) ** bin(a & b).count("1") for b in i] for a in i])
    np.testing.assert_array_equal(h * 4, np.array(hadamard.SIGNS)[:, None] * sylvester)


@EXAMPLES
@given(matrices(50), st.integers(0, 2**32))
def test_hadamard_leaves_products_unchanged(a, seed):
    """Four additions, each rounding by 2**-24 of at most |a|_1 of the block; the division by 4 is exact."""
    b = np.random.default_rng(seed).standard_normal((9, a.shape[1])).astype(F32)
    exact = a.astype(np.float64) @ b.T.astype(np.float64)
    found = hadamard.transform(a).astype(np.float64) @ hadamard.transform(b).T.astype(np.float64)
    # |H a| <= |a|_1 / 4 an element, its error 4 * 2**-24 of that (first order); 16 a block, both
    # sides.
    sums = [blocks_of_16(np.abs(x)).sum(-1) for x in (a, b)]
    bound = 2 * 16 * (4 * 2.0**-24) * np.einsum("mb,nb->mn", *sums) / 16
    assert (np.abs(found - exact) <= bound * 1.01 + 1e-30).all()


def blocks_of_16(x):
    wide = -(-x.shape[1] // 16) * 16
    return np.pad(x.astype(np.float64), ((0, 0), (0, wide - x.shape[1]))).reshape(len(x), -1, 16)


def test_hadamard_spreads_an_outlier():
    x = np.zeros((1, 20), F32)
    x[0, 3] = 4
    y = hadamard.transform(x)
    assert y.shape == (1, 32)
    assert (np.abs(y[0, :16]) == 1).all()
    assert (y[0, 16:] == 0).all()
