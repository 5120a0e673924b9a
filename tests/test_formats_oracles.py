"""What the quantisers do to whole distributions, against numbers known beforehand (NUMERICS, 2 and 3).

Tolerance: five standard errors of the sample, plus what the published number lost by being rounded.
"""

import math

import numpy as np
import pytest

from fourbit_onnx.formats import gradient_scale, integer, log2, log4, sawb, stochastic
from fourbit_onnx.formats.table import FORMATS, decode

COUNT = 1_000_000

# threshold, mean(Q/x) - 1, root mean square relative error
RADIX_4 = {
    "arithmetic midpoint": (2.5, -0.134, 0.367),
    "unbiased": (3 / math.log(4), 0.0, 0.394),
    "geometric midpoint": (2.0, 0.082, 0.434),
}
RADIX_4_ROUNDED = 0.0005  # the table has three decimals


def log_uniform(rng, count, threshold, scale):
    """Magnitudes that are neither 0 nor saturated: seven whole periods of the grid, and a random sign."""
    period = np.exp2(rng.uniform(math.log2(threshold / 4), math.log2(threshold * 4**6), count))
    return (period * scale * rng.choice([-1, 1], count)).astype(np.float32)


@pytest.mark.parametrize("phase", [log4.EVEN, log4.ODD])
@pytest.mark.parametrize(("threshold", "bias", "rms"), RADIX_4.values(), ids=RADIX_4)
def test_relative_error_of_radix_4(threshold, bias, rms, phase):
    """With ratio r = Q / x: E r = 3 / (t ln 4), E r**2 = 15 / (2 t**2 ln 4), by integration over a period."""
    scale = 2.0**-7
    x = log_uniform(np.random.default_rng(phase), COUNT, threshold, scale * (1 + phase))
    codes = log4.encode(x, scale, phase, threshold)
    error = log4.decode(codes, scale, phase).astype(np.float64) / x - 1
    assert (
        codes % 8 > 0
    ).mean() > 0.99999  # but for float32's rounding of numbers next to the lowest threshold

    first, second = 3 / (threshold * math.log(4)), 15 / (2 * threshold**2 * math.log(4))
    exact_bias, exact_rms = first - 1, math.sqrt(second - 2 * first + 1)
    assert abs(exact_bias - bias) <= RADIX_4_ROUNDED
    assert abs(exact_rms - rms) <= RADIX_4_ROUNDED

    mean_error = error.std() / math.sqrt(COUNT)
    square_error = (error**2).std() / math.sqrt(COUNT)
    assert abs(error.mean() - exact_bias) <= 5 * mean_error
    assert abs((error**2).mean() - exact_rms**2) <= 5 * square_error
    assert max(mean_error, square_error) < 0.0005  # so that a threshold of 2.49 would be seen: 0.0035 of bias


def test_the_phases_have_different_errors():
    """What two-phase rounding is for: on the average the product of the two errors is negative.

    The ratios r and r' of the phases are 1/x and 2/x on (1.25, 2.5], 4/x and 2/x on (2.5, 5], and so on:
    E r r' = (2 (1/1.25**2 - 1/2.5**2) + 8 (1/2.5**2 - 1/5**2)) / (2 ln 4) = 0.96 / ln 4.
    """
    x = np.exp2(np.random.default_rng(3).uniform(math.log2(1.25), math.log2(1280), COUNT)).astype(np.float32)
    even, odd = (
        log4.decode(log4.encode(x, 1, phase), 1, phase).astype(np.float64) / x - 1 for phase in (0, 1)
    )
    product = even * odd
    exact = 0.96 / math.log(4) - 2 * 3 / (2.5 * math.log(4)) + 1
    assert exact < -0.03
    assert abs(product.mean() - exact) <= 5 * product.std() / math.sqrt(COUNT)


def test_log4_with_its_dynamic_scale():
    """Five whole periods below the largest: the same mean error as above."""
    rng = np.random.default_rng(4)
    dy = (np.exp2(rng.uniform(-10, 0, COUNT)) * 1e-6).astype(np.float32)
    scale = gradient_scale.dynamic(dy)
    codes = log4.encode(dy, scale)
    assert codes.max() in (6, 7)
    assert codes.min() > 0
    error = log4.decode(codes, scale).astype(np.float64) / dy - 1
    assert abs(error.mean() + 0.1344) <= 5 * error.std() / math.sqrt(COUNT) + 0.00005


# radix, root mean square relative error of stochastic rounding, which has no bias
STOCHASTIC = {"log4": (4, 0.594), "log2": (2, 0.286)}


@pytest.mark.parametrize(("name", "radix", "rms"), [(n, *row) for n, row in STOCHASTIC.items()])
def test_relative_error_of_stochastic_rounding(name, radix, rms):
    """With r = Q / x:  E r = 1,  E r**2 = (b**2 - 1) / (2 b ln b), by integration over a period [1, b]."""
    rng = np.random.default_rng(7)
    row, scale = FORMATS[name], np.float32(2.0**-7)
    magnitude = np.exp2(rng.uniform(0, math.log2(row.max), COUNT))
    x = (magnitude * scale * rng.choice([-1, 1], COUNT)).astype(np.float32)
    u = rng.integers(0, 2**24, COUNT).astype(np.float32) * np.float32(2.0**-24)
    error = decode(stochastic.encode(x, scale, u, row), scale, row).astype(np.float64) / x - 1
    exact = (radix**2 - 1) / (2 * radix * math.log(radix)) - 1
    assert abs(math.sqrt(exact) - rms) <= RADIX_4_ROUNDED
    assert abs(error.mean()) <= 5 * error.std() / math.sqrt(COUNT)
    assert abs((error**2).mean() - exact) <= 5 * (error**2).std() / math.sqrt(COUNT)


def test_relative_error_of_radix_2_to_nearest():
    """E r = 1 / (t ln 2), E r**2 = 3 / (2 t**2 ln 2) with t = 1.5."""
    rng = np.random.default_rng(8)
    x = (np.exp2(rng.uniform(math.log2(0.75), math.log2(0.75 * 2**7), COUNT)) * 2.0**-7).astype(np.float32)
    error = decode(log2.encode(x, 2.0**-7), 2.0**-7, FORMATS["log2"]).astype(np.float64) / x - 1
    bias = 1 / (1.5 * math.log(2)) - 1
    square = 3 / (2 * 1.5**2 * math.log(2)) - 2 * bias - 1
    assert abs(bias + 0.038) <= RADIX_4_ROUNDED
    assert abs(math.sqrt(square) - 0.195) <= RADIX_4_ROUNDED
    assert abs(error.mean() - bias) <= 5 * error.std() / math.sqrt(COUNT)
    assert abs((error**2).mean() - square) <= 5 * (error**2).std() / math.sqrt(COUNT)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_underflow_is_unbiased(name):
    """Below the lowest level: E Q = x, with the deviation sqrt(x (1 - x)) of a coin."""
    rng, row, count = np.random.default_rng(9), FORMATS[name], COUNT // 10
    for x in (0.001, 0.1, 0.5, 0.9):
        u = rng.integers(0, 2**24, count).astype(np.float32) * np.float32(2.0**-24)
        drawn = decode(stochastic.encode(np.full(count, -x, np.float32), 1, u, row), 1, row)
        assert set(np.unique(drawn)) == {0, -1}
        assert abs(-drawn.mean() - x) <= 5 * math.sqrt(x * (1 - x) / count) + 2.0**-24


# Normalised mean square error of SAWB with fifteen levels: E (Q - w)**2 / E w**2.
SAWB = {"normal": 0.0129, "laplace": 0.0275, "uniform": 0.0044}
SAWB_ROUNDED = 0.00005  # four decimals


def draw(rng, name, count):
    return (rng.uniform(-1, 1, count) if name == "uniform" else getattr(rng, name)(size=count)).astype(
        np.float32
    )


def normalised_error(w, scale):
    wide = w.astype(np.float64)
    y = decode(integer.encode(w, scale, FORMATS["int4"]), scale, FORMATS["int4"])
    return np.mean((y - wide) ** 2) / np.mean(wide**2)


@pytest.mark.parametrize("name", SAWB)
def test_normalised_error_of_sawb(name):
    """Ten samples of 100,000; their spread gives the standard error, that of the clip's estimate included."""
    rng = np.random.default_rng(5)
    errors = [normalised_error(w, sawb.scale(w)) for w in (draw(rng, name, COUNT // 10) for _ in range(10))]
    standard_error = np.std(errors, ddof=1) / math.sqrt(10)
    assert standard_error < 0.0002
    assert abs(np.mean(errors) - SAWB[name]) <= 5 * standard_error + SAWB_ROUNDED


def test_no_other_clip_is_better_on_normal_weights():
    """The best possible is 0.0129 too; the same weights for all clips, so sampling noise cancels."""
    w = draw(np.random.default_rng(6), "normal", COUNT // 4)
    ours, alpha = normalised_error(w, sawb.scale(w)), sawb.clip(w)
    best = min(normalised_error(w, alpha * np.float32(f) / np.float32(7)) for f in np.linspace(0.8, 1.25, 46))
    assert best <= ours <= 1.005 * best
    y = decode(integer.encode(w, sawb.scale(w), FORMATS["int4"]), sawb.scale(w), FORMATS["int4"])
    wide = w.astype(np.float64)
    deviation = ((y - wide) ** 2 - ours * wide**2) / np.mean(wide**2)  # of a ratio of two means
    assert abs(best - SAWB["normal"]) <= 5 * deviation.std() / math.sqrt(w.size) + SAWB_ROUNDED
