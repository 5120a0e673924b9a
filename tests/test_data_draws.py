import numpy as np
import pytest

from fourbit_onnx.data.draws import Draws


def test_the_stream_is_the_promised_one():
    raw = Draws(1, 2).raw(2, 3)
    promised = np.random.PCG64(np.random.SeedSequence([1, 2])).random_raw(6)
    np.testing.assert_array_equal(raw, np.asarray(promised).reshape(2, 3))
    assert (Draws(1, 3).raw(6) != raw.ravel()).all()


def test_units_are_the_upper_53_bits():
    raw = Draws(5).raw(1000)
    unit = Draws(5).unit(1000)
    assert [int(value * 2**53) for value in unit] == [int(value) >> 11 for value in raw]
    assert 0 <= unit.min() < unit.max() < 1


def test_whole_numbers_and_orders():
    found = Draws(7).below(6, 6000)
    assert found.dtype == np.int64
    counts = np.bincount(found, minlength=6)
    assert len(counts) == 6
    # 6 standard deviations of a count: sqrt(6000 * 1/6 * 5/6) = 29
    assert np.abs(counts - 1000).max() < 6 * 29
    assert sorted(Draws(7).order(100)) == list(range(100))


def test_bell_is_the_sum_of_the_eight_bytes_of_each_raw_number():
    raw, bell = Draws(9).raw(50), Draws(9).bell(50)
    sums = [sum(int(value).to_bytes(8, "little")) for value in raw]
    # one float32 rounding of a product, and the rounding of the factor: 2 units in the last place
    np.testing.assert_allclose(bell, (np.array(sums) - 1020) / np.sqrt(8 * (256**2 - 1) / 12), rtol=2**-22)


def test_bell_has_variance_one():
    bell = Draws(11).bell(100_000).astype(np.float64)
    # standard errors: of the mean 1/316, of the variance sqrt(kurtosis - 1)/316 < 1.42/316
    assert bell.mean() == pytest.approx(0, abs=6 / 316)
    assert bell.var() == pytest.approx(1, abs=6 * 1.42 / 316)
