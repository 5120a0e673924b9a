"""The mean of both phases of log4: a sum of integers, on radix 2; a product of it is the mean of products."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourbit_onnx.errors import GraphError
from fourbit_onnx.formats import log4
from fourbit_onnx.formats.table import FORMATS
from fourbit_onnx.ops import reference

UINT4 = list(FORMATS["uint4"].values)
LOG4 = list(FORMATS["log4"].values)
EVEN, ODD = (np.array(part) for part in (log4.EVEN_PART, log4.ODD_PART))
GEOMETRY = {"strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 2), "group": 2}
RNG = np.random.default_rng(4)

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
scales = st.floats(float(np.float32(1e-30)), float(np.float32(1e30)), width=32)


def encoded(x, scale=1.0, threshold=log4.THRESHOLD):
    return tuple(log4.encode(x, scale, phase, threshold) for phase in (log4.EVEN, log4.ODD))


@given(floats, scales, st.sampled_from([2.0, 2.5, log4.UNBIASED]))
def test_the_sum_of_the_parts_is_the_mean_of_both_phases(x, scale, threshold):
    """Exactly, in fractions; where the odd code is 0 both count as 0."""
    even, odd = (int(codes) for codes in encoded(x, scale, threshold))
    mean = Fraction(log4.value(even) + 2 * log4.value(odd), 2) if odd else Fraction(0)
    assert Fraction(int(EVEN[even] + ODD[odd])) * Fraction(log4.MEAN_UNIT) == mean


def test_levels_and_thresholds_are_those_of_radix_2():
    """Levels 1.5 * 2**k, k = 0..12; up beyond 1.25 * 2**k, the arithmetic midpoint of 1 and 1.5 times it."""
    for k in range(13):
        threshold = np.float32(1.25 * 2**k)
        for x, level in ((threshold, 2**k // 2), (np.nextafter(threshold, np.float32(np.inf)), 2**k)):
            even, odd = encoded(x)
            assert EVEN[even] + ODD[odd] == level
            even, odd = encoded(-x)
            assert EVEN[even] + ODD[odd] == -level
    assert EVEN.max() + ODD.max() == 2**12


def test_no_code_has_more_than_sixteen_values_and_their_sum_has_27():
    x = np.ldexp(RNG.uniform(1, 2, 100_000), RNG.integers(-4, 15, 100_000)) * RNG.choice([-1, 1], 100_000)
    even, odd = encoded(x.astype(np.float32))
    assert max(len(np.unique(even)), len(np.unique(odd))) == 15
    assert len(np.unique(EVEN[even] + ODD[odd])) == 27


def test_noise_is_that_of_radix_2():
    """With the threshold 3 / ln 4, on magnitudes uniform in the logarithm over whole octaves of the grid.

    From t / 2 to t (t = 3 / ln 4) x becomes 1.5: mean(Q / x) = 1.5 (2 / t - 1 / t) / ln 2 = 1, and
    mean((Q / x)**2) = 1.5**2 (4 / t**2 - 1 / t**2) / (2 ln 2) = 3 * 2.25 (ln 4 / 3)**2 / ln 4 = 0.75 ln 4,
    so the relative error has 0.75 ln 4 - 1 = 0.0397 of the square, 14.0 dB; one phase has 0.155.
    """
    t, n = log4.UNBIASED, 200_000
    x = np.exp(RNG.uniform(math.log(t / 2), math.log(t * 2048), n)).astype(np.float32)
    even, odd = encoded(x, threshold=t)
    ratio = (EVEN[even] + ODD[odd]) * log4.MEAN_UNIT / x.astype(np.float64)
    error = 0.75 * math.log(4) - 1
    # five standard errors; |Q / x - 1| < 0.39, so the square's standard deviation is below 0.39**2 / 2
    assert abs(ratio.mean() - 1) < 5 * math.sqrt(error / n)
    assert abs(((ratio - 1) ** 2).mean() - error) < 5 * 0.39**2 / 2 / math.sqrt(n)


def both_products(op, two_phase, codes, dy, **attributes):
    """The product of the mean, and the mean of the two products: exact in float32, as the sums are small."""
    even, odd = encoded(dy)
    even_there = np.where(odd == 0, 0, even)  # the pair underflows where its odd code does
    one = reference.REFERENCES[two_phase](*codes[0], even, odd, 1.0, *codes[1], **attributes)
    attributes["dy_values"] = LOG4
    products = [
        reference.REFERENCES[op](*codes[0], dy, scale, *codes[1], **attributes)
        for dy, scale in ((even_there, 1.0), (odd, 2.0))
    ]
    return one, (products[0] + products[1]) / 2


def test_convolutions_are_means_of_two():
    dy = np.ldexp(RNG.normal(size=(2, 6, 3, 5)), RNG.integers(-2, 9, (2, 6, 3, 5))).astype(np.float32)
    x, w = RNG.integers(0, 16, (2, 4, 5, 7)), RNG.integers(0, 16, (6, 2, 3, 3))
    one, mean = both_products(
        "QConvWeightGrad", "QConvWeightGradTwoPhase", ([x, 1.0, 0], [w.shape]), dy, **GEOMETRY, x_values=UINT4
    )
    np.testing.assert_array_equal(one, mean)
    one, mean = both_products(
        "QConvInputGrad", "QConvInputGradTwoPhase", ([], [w, 1.0, 3, x.shape]), dy, **GEOMETRY, w_values=UINT4
    )
    np.testing.assert_array_equal(one, mean)
    assert np.abs(mean).max() > 0


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_dy", [0, 1])
@pytest.mark.parametrize("trans_y", [0, 1])
def test_products_of_matrices_are_means_of_two(trans_a, trans_dy, trans_y):
    a = RNG.integers(0, 16, (2, 5, 4) if trans_a else (2, 4, 5))
    dy = np.ldexp(RNG.normal(size=(2, 5, 3)), RNG.integers(-2, 9, (2, 5, 3))).astype(np.float32)
    dy = dy.swapaxes(1, 2) if trans_dy else dy
    even, odd = encoded(dy)
    one = reference.q_matmul_two_phase(
        a, 1.0, 2, even, odd, 1.0, a_values=UINT4, trans_a=trans_a, trans_dy=trans_dy, trans_y=trans_y
    )
    parts = [
        reference.q_matmul(
            a, 1.0, 2, codes, scale, 0, a_values=UINT4, b_values=LOG4, trans_a=trans_a, trans_b=trans_dy
        )
        for codes, scale in ((np.where(odd == 0, 0, even), 1.0), (odd, 2.0))
    ]
    mean = (parts[0] + parts[1]) / 2
    np.testing.assert_array_equal(one, mean.swapaxes(1, 2) if trans_y else mean)


def test_phases_of_two_shapes_are_refused():
    codes = RNG.integers(0, 16, (3, 4))
    with pytest.raises(GraphError) as refusal:
        reference.q_matmul_two_phase(codes, 1.0, 0, codes.T, codes, 1.0, a_values=UINT4)
    assert str(refusal.value) == "ai.fourbit.QMatMulTwoPhase: phases of [4, 3] and of [3, 4] codes"


def test_what_is_no_convolution_is_refused_by_its_name():
    dy, x, w = np.zeros((1, 6, 3, 2), int), np.zeros((1, 4, 5, 5), int), np.zeros((6, 4, 3, 3), int)
    plain = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    with pytest.raises(GraphError, match=r"^ai\.fourbit\.QConvInputGradTwoPhase: "):
        reference.q_conv_input_grad_two_phase(dy, dy, 1.0, w, 1.0, 0, x.shape, **plain, w_values=UINT4)
    with pytest.raises(GraphError, match=r"^ai\.fourbit\.QConvWeightGradTwoPhase: "):
        reference.q_conv_weight_grad_two_phase(x, 1.0, 0, dy, dy, 1.0, w.shape, **plain, x_values=UINT4)


def test_a_scale_beyond_float32_is_infinite():
    """As IEEE has it, without a warning: 1.5 times 3e38 is no number of float32."""
    result = reference.q_matmul_two_phase([[1]], 1.0, 0, [[1]], [[1]], 3e38, a_values=UINT4)
    assert result.tolist() == [[math.inf]]
