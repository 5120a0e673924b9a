from fractions import Fraction

import numpy as np
import pytest
from exact import LARGEST, SCALES, SMALLEST, bits, half_even, neighbours, quotient
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import pact
from fourbit_onnx.formats.table import decode

ROWS = pytest.mark.parametrize("row", [pact.UNSIGNED, pact.SIGNED], ids=["unsigned", "signed"])
RNG = np.random.default_rng(0)


@ROWS
@pytest.mark.parametrize("alpha", SCALES)
def test_codes_at_every_level_and_midpoint(row, alpha):
    alpha = np.float32(alpha)
    scale = pact.scale(alpha, row)
    assert bits(scale) == bits(quotient(alpha, row.max))
    x = neighbours(np.arange(-2 * row.max, 2 * row.max + 1).astype(np.float32) / 2 * scale)
    expected = [max(row.min, min(row.max, half_even(q))) for q in quotient(x, scale)]
    np.testing.assert_array_equal(pact.encode(x, alpha, row), expected)


@ROWS
@pytest.mark.parametrize("alpha", [1.0, 6.0, *RNG.uniform(0.1, 9, 10)])
def test_the_gradient_passes_in_the_open_interval(row, alpha):
    alpha = np.float32(alpha)
    low = -alpha if row is pact.SIGNED else np.float32(0)
    up, down = np.float32(np.inf), np.float32(-np.inf)
    x = [
        low,
        np.nextafter(low, down),
        np.nextafter(low, up),
        alpha,
        np.nextafter(alpha, up),
        np.nextafter(alpha, down),
    ]
    np.testing.assert_array_equal(pact.inside(x, alpha, row), [False, False, True, False, False, True])
    np.testing.assert_array_equal(pact.inside([0.0, -0.0], alpha, row), [row is pact.SIGNED] * 2)


@ROWS
def test_what_is_clipped_has_the_code_of_its_end(row):
    """So that the gradient of alpha needs codes and mask only."""
    for alpha in np.exp2(RNG.uniform(-20, 20, 500)).astype(np.float32):
        x = np.array([alpha, -alpha, LARGEST, -LARGEST], np.float32)
        low = 0 if row is pact.UNSIGNED else -7
        np.testing.assert_array_equal(pact.encode(x, alpha, row), [row.max, low, row.max, low])
        assert not pact.inside(x, alpha, row).any()


@ROWS
def test_values_stay_within_the_clip(row):
    x = RNG.standard_normal(1000).astype(np.float32) * 3
    y = decode(pact.encode(x, 1.5, row), pact.scale(1.5, row), row)
    clipped = np.clip(x, 0 if row is pact.UNSIGNED else -1.5, 1.5)
    # half a step, and the rounding of the quotient and of the value, each 2**-24 relative
    assert np.abs(y - clipped).max() <= 0.5 * pact.scale(1.5, row) + 2 * 2.0**-24 * 1.5


@ROWS
@pytest.mark.parametrize("alpha", [np.nan, np.inf, 0.0, -1.0])
def test_refuses_a_clip_that_is_none(row, alpha):
    with pytest.raises(FormatError, match=f"^pact needs a finite alpha above 0, not {alpha}"):
        pact.encode([1.0], alpha, row)
    assert pact.encode(np.ones((0, 3)), alpha, row).shape == (0, 3)


@ROWS
def test_refuses_a_clip_that_cannot_be_divided(row):
    with pytest.raises(FormatError, match=f"^pact needs an alpha of which a {row.max}th is above 0"):
        pact.encode([0.0], SMALLEST, row)


@ROWS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_is_not_finite(row, bad):
    if row is pact.UNSIGNED and bad == -np.inf:  # below 0
        np.testing.assert_array_equal(pact.encode([0, 1, bad], 1, row), [0, 15, 0])
    else:
        with pytest.raises(FormatError, match=rf"^{row.name} needs finite numbers: x\[2\] is {bad}"):
            pact.encode([0, 1, bad], 1, row)
    with pytest.raises(FormatError, match=rf"^pact needs finite numbers: dy\[2\] is {bad}"):
        pact.alpha_grad([0, 1, bad], [0, 0, 0], np.ones(3, bool), 15)
    with pytest.raises(FormatError, match=rf"^pact needs finite numbers: dy\[2\] is {bad}"):
        pact.alpha_grad_plus([0, 1, bad], [0, 0, 0], np.ones(3, bool), np.ones(3, bool), row.max)
    with pytest.raises(FormatError, match=rf"^pact needs finite numbers: x\[2\] is {np.abs(bad)}"):
        pact.initial_clip([0, 1, bad])


def test_dx_is_plus_zero_outside_and_dy_to_the_bit_inside():
    dy = np.array([-1, -0.0, 3, -4], np.float32)
    dx = pact.input_grad(dy, np.array([False, True, True, False]))
    np.testing.assert_array_equal(bits(dx), bits([0.0, -0.0, 3, 0.0]))


def exact_alpha_grad(dy, codes, inside, top):
    """The contract, an element at a time: integers in units of m * 2**-30."""
    m = max(abs(float(v)) for v in dy)
    total = 0
    for v, code, passes in zip(dy.tolist(), codes.tolist(), inside.tolist(), strict=True):
        if not passes and abs(code) == top:
            u = half_even(np.float32(np.float64(v) / m) * np.float32(2**30))
            total += u if code > 0 else -u
    return np.float32(float(total) * 2.0**-30 * m)


@ROWS
@pytest.mark.parametrize("scale", [1.0, 1e-30, 3e20, 0.1])
@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_alpha_grad_is_the_definition(row, scale, count):
    x = (RNG.standard_normal(count) * 3).astype(np.float32)
    dy = (RNG.standard_normal(count) * scale).astype(np.float32)
    codes, inside = pact.encode(x, 2.5, row), pact.inside(x, 2.5, row)
    assert bits(pact.alpha_grad(dy, codes, inside, row.max)) == bits(
        exact_alpha_grad(dy, codes, inside, row.max)
    )


@ROWS
def test_alpha_grad_is_the_sum_over_clipped_elements(row):
    """Against the definition by x: each term off by m * 2**-31 and 2**-24 relative, alike in its rounding."""
    x = (RNG.standard_normal((50, 40)) * 3).astype(np.float32)
    dy = RNG.standard_normal((50, 40)).astype(np.float32)
    above, below = x >= 2.5, (x <= -2.5) & (row is pact.SIGNED)
    expected = dy[above].sum(dtype=np.float64) - dy[below].sum(dtype=np.float64)
    terms = np.abs(dy[above | below]).astype(np.float64)
    bound = terms.size * np.abs(dy).max() * 2.0**-31 + 2.0**-24 * (terms.sum() + abs(expected))
    found = pact.alpha_grad(dy, pact.encode(x, 2.5, row), pact.inside(x, 2.5, row), row.max)
    assert abs(float(found) - expected) <= bound


def test_elements_with_the_top_code_inside_the_range_do_not_count():
    """0.98 rounds to code 15 of 15 and lies inside: its gradient goes to x, none to alpha."""
    x = np.array([0.98, 1.0, 1.5, 0.55, -1.0], np.float32)
    dy = np.array([1, 10, 100, 1000, 10000], np.float32)
    codes, inside = pact.encode(x, 1, pact.UNSIGNED), pact.inside(x, 1, pact.UNSIGNED)
    assert codes.tolist() == [15, 15, 15, 8, 0]
    assert pact.alpha_grad(dy, codes, inside, 15) == 110
    assert pact.input_grad(dy, inside).tolist() == [1, 0, 0, 1000, 0]
    codes, inside = pact.encode(x, 1, pact.SIGNED), pact.inside(x, 1, pact.SIGNED)
    assert pact.alpha_grad(dy, codes, inside, 7) == 110 - 10000


@pytest.mark.parametrize(
    "dy", [np.zeros(0), np.zeros(3), np.full(3, -0.0)], ids=["empty", "zeros", "minus zeros"]
)
def test_no_gradient_gives_zero(dy):
    for grad in (
        pact.alpha_grad(dy, np.full(dy.shape, 15), np.zeros(dy.shape, bool), 15),
        pact.alpha_grad_plus(dy, np.full(dy.shape, 15), *[np.ones(dy.shape, bool)] * 2, 15),
    ):
        assert bits(grad) == bits(0.0)


def test_a_sum_beyond_float32_is_infinite():
    assert pact.alpha_grad(np.full(2, LARGEST), [15, 15], np.zeros(2, bool), 15) == np.inf


numbers = st.floats(-(2.0**20), 2.0**20, width=32)
pairs = hnp.arrays(np.float32, st.tuples(st.integers(0, 30), st.just(2)), elements=numbers)


@given(pairs, st.randoms(use_true_random=False))
def test_order_does_not_matter(data, random):
    rows = list(range(len(data)))
    random.shuffle(rows)
    for row in (pact.UNSIGNED, pact.SIGNED):
        found = []
        for dy, x in (data.T, data[rows].T):
            codes, inside = pact.encode(x, 2.5, row), pact.inside(x, 2.5, row)
            up = pact.rounded_up(x, pact.scale(2.5, row))
            plus = pact.alpha_grad_plus(dy, codes, inside, up, row.max)
            found.append((pact.alpha_grad(dy, codes, inside, row.max), plus))
        assert found[0] == found[1]


@ROWS
def test_pact_plus_adds_a_quarter_of_a_step_where_it_is_rounded(row):
    """Against fractions: each term is rounded to float32 (2**-24) and to units (m * 2**-31)."""
    x = (RNG.standard_normal(300) * 2).astype(np.float32)
    dy = RNG.standard_normal(300).astype(np.float32)
    alpha, total, size = np.float32(1.5), Fraction(0), 0.0
    for v, g in zip(x, dy.tolist(), strict=True):
        if v >= alpha:
            total += Fraction(g)
        elif row is pact.SIGNED and v <= -alpha:
            total -= Fraction(g)
        elif pact.inside(v, alpha, row):
            z = float(quotient(v, pact.scale(alpha, row)))
            total += Fraction(g) * (1 if half_even(z) > z else -1) / (4 * row.max)
        size += abs(g)
    bound = 300 * float(np.abs(dy).max()) * 2.0**-31 + 4 * 2.0**-24 * size
    codes, inside = pact.encode(x, alpha, row), pact.inside(x, alpha, row)
    up = pact.rounded_up(x, pact.scale(alpha, row))
    found = float(pact.alpha_grad_plus(dy, codes, inside, up, row.max))
    assert abs(found - float(total)) <= bound
    assert abs(found - float(pact.alpha_grad(dy, codes, inside, row.max))) > 100 * bound  # it sees the term


@ROWS
def test_the_derivative_by_alpha_is_what_pact_plus_estimates(row):
    """For gradients that follow the remainder r = rint(z) - z: the mean of r**2 is 1/12, of |r| / 4 1/16.

    Summed over n elements the ratio is 3/4, times 1 + the mean of 4 |r| - 12 r**2, whose variance is
    4/3 - 3 + 9/5 = 2/15 where r is spread evenly: 6 standard deviations are allowed, one in 5e8.
    """
    n = 100_000
    x = RNG.uniform(0, 1.5, n).astype(np.float32)  # whole steps: r is spread evenly
    alpha = np.float32(1.5)
    z = x / pact.scale(alpha, row)
    remainder = np.rint(z) - z
    codes, inside = pact.encode(x, alpha, row), pact.inside(x, alpha, row)
    up = pact.rounded_up(x, pact.scale(alpha, row))
    found = pact.alpha_grad_plus(remainder, codes, inside, up, row.max)
    exact = (remainder.astype(np.float64) ** 2).sum() / row.max
    assert abs(found / exact - 0.75) < 0.75 * 6 * np.sqrt(2 / 15 / n)


def test_rounded_up_is_false_where_there_is_nothing_to_round():
    assert pact.rounded_up([0.2, 0.6, 1, 1.5, 2.5, -0.4, -0.6, np.nan, np.inf, -np.inf], 1).tolist() == [
        *[False, True, False, True, False],
        *[True, False, False, False, False],
    ]


def test_initial_clip_is_the_percentile_of_the_graph():
    """The smallest of the n // 1000 largest magnitudes, of one at least."""
    rng = np.random.default_rng(1)
    for count, rank in ((1, 1), (999, 1), (1000, 1), (1999, 1), (2000, 2), (12_345, 12)):
        x = rng.standard_normal(count).astype(np.float32)
        assert pact.initial_clip(x) == np.sort(np.abs(x))[-rank]
    assert pact.initial_clip(np.array([[-3.0, 2.0]])) == 3
    assert pact.initial_clip(np.zeros((0, 4))) == 0
