"""RandomUniform: body, kernel and reference agree, and the numbers look random."""

import numpy as np
import pytest
from one_node import run

from fourbit_onnx.ops.reference import random_uniform
from fourbit_onnx.runtime import library

KNOWN = [13362528, 7017654, 4470583, 15472266]  # counter 2**32 + 1, stream 2, in units of 2**-24
COUNTERS = [0, 1, 2**32 - 1, 2**32, 3 * 2**32 + 17, 2**62 + 1]


def uniform(shape, counter, stream, native, threads=1):
    inputs = {"shape": np.array(shape, np.int64), "counter": np.array(counter, np.int64)}
    path = library.path() if native else None
    return run("RandomUniform", inputs, attributes={"stream": stream}, library=path, threads=threads)[0]


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (7, 11, 13), (70001,)], ids=str)
@pytest.mark.parametrize("native", [False, True], ids=["body", "native"])
def test_agrees_with_reference(shape, native):
    if native and library.path() is None:
        pytest.skip("the native library is not built")
    for counter in COUNTERS:
        for stream in (0, 5, 2**31 - 1):
            expected = random_uniform(shape, counter, stream=stream)
            got = uniform(shape, counter, stream, native, threads=2)
            assert got.shape == expected.shape
            np.testing.assert_array_equal(got, expected)


def test_known_values():
    """Fixed for ever: a change of these numbers changes every run with dropout."""
    words = (random_uniform((4,), 2**32 + 1, stream=2) * 2**24).astype(int).tolist()
    assert words == KNOWN


def test_moments_and_independence():
    n = 2**20
    u = random_uniform((n,), 12345).astype(np.float64)
    assert u.min() >= 0
    assert u.max() < 1
    # four standard errors: mean has sd sqrt(1/12n), a correlation of n independent pairs has sd 1/sqrt(n)
    assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / n)
    for other in (random_uniform((n,), 12346), random_uniform((n,), 12345, stream=1), np.roll(u, 1)):
        assert abs(np.corrcoef(u, other)[0, 1]) < 4 / np.sqrt(n)
    # chi-square of 256 bins: mean 255, sd sqrt(510); 5 sd
    counts = np.bincount((u * 256).astype(int), minlength=256)
    assert ((counts - n / 256) ** 2 / (n / 256)).sum() < 255 + 5 * np.sqrt(510)
