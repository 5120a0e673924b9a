"""The threshold of Log4: an attribute of the rounding, the same in reference, body and kernel."""

import numpy as np
import pytest
from native import check, needs_library
from native import run as run_native
from one_node import run

from fourbit_onnx.ops.reference import quantize_log4
from fourbit_onnx.runtime import library

# The arithmetic midpoint, the unbiased one (3 / ln 4), the geometric one (NUMERICS, section 2).
THRESHOLDS = [2.5, 3 / np.log(4), 2.0]


def near_thresholds(threshold, scale):
    """Every threshold and its float neighbours, both signs, and a wide range."""
    t = (np.float32(threshold) * np.array([4.0**k for k in range(-1, 6)], np.float32)) * np.float32(scale)
    edges = np.concatenate([t, np.nextafter(t, 0), np.nextafter(t, np.float32(np.inf)), [0]])
    wide = scale * np.exp2(np.random.default_rng(0).uniform(-6, 16, 999))
    return np.concatenate([edges, -edges, wide]).astype(np.float32)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_library)], ids=["body", "native"])
def test_agrees_with_reference(threshold, phase, native):
    x = near_thresholds(threshold, 2.0**-9)
    expected, _ = quantize_log4(x, np.float32(2.0**-9), phase=phase, threshold=np.float32(threshold))
    inputs = {"dy": x, "scale": np.float32(2.0**-9)}
    attributes = {"phase": phase, "threshold": float(np.float32(threshold))}
    path = library.path() if native else None
    got = run("QuantizeLog4", inputs, ["codes"], attributes, library=path)[0]
    np.testing.assert_array_equal(got, expected)


@needs_library
@pytest.mark.parametrize(
    "scale", [1e-45, 2.7e-42, 2.0**-126, 3e-38, 5e-37, 1, 1e30, 3e34, 1e36, 1.7e38, 3e38]
)
def test_where_numbers_end(scale):
    """Thresholds among subnormal numbers, or above the largest: they are not spaced evenly."""
    rng = np.random.default_rng(2)
    scale = np.float32(scale)
    for threshold, ratio in ((0.625, 4.0), (0.75, 2.0)):
        with np.errstate(over="ignore"):
            edges = (threshold * ratio ** np.arange(7) * float(scale) * np.array([[1], [2]])).astype(
                np.float32
            )
        anything = rng.integers(0, 0x7F800000, 500, np.uint32).view(np.float32)
        low = rng.integers(0, 200, 100, np.uint32).view(np.float32)
        near = [np.nextafter(edges, np.float32(far)).ravel() for far in (0, np.inf)]
        x = np.concatenate([edges.ravel(), *near, anything, low])
        x = np.concatenate([x, -x])
        x = x[np.isfinite(x)]
        if ratio == 2:
            check("QuantizeLog2", {"x": x, "scale": scale}, ["codes"])
            continue
        for phase in (0, 1):
            check("QuantizeLog4", {"x": x, "scale": scale}, ["codes"], {"phase": phase})


@needs_library
def test_many_numbers_where_they_end():
    """More than a thread takes at once; and what is not finite is refused there, too."""
    x = np.random.default_rng(3).integers(0, 200, 40_001, np.uint32).view(np.float32)
    inputs = {"x": x, "scale": np.float32(1e-45)}
    (codes,) = check("QuantizeLog2", inputs, ["codes"])
    assert set(codes) == set(range(8))
    for bad in (np.inf, np.nan):
        x[30_000] = bad
        with pytest.raises(Exception, match=rf"x\[30000\] is {bad}"):
            run_native("QuantizeLog2", inputs, ["codes"])


def test_the_unbiased_threshold_is_unbiased():
    """mean(Q/x) - 1, log-uniform magnitudes: -13.44 % at 2.5, 0 at 3 / ln 4; 4 standard errors, n = 1e6."""
    rng = np.random.default_rng(1)
    n = 1_000_000
    x = np.exp(rng.uniform(np.log(4.0), np.log(4.0**6), n)).astype(np.float32)
    values = np.array([0, *(4.0**k for k in range(7))])
    for threshold, bias in ((2.5, 1.2 / np.log(4) - 1), (3 / np.log(4), 0.0)):
        codes, _ = quantize_log4(x, np.float32(1), threshold=np.float32(threshold))
        ratio = values[codes] / x
        # Q(x)/x repeats itself with period ln 4, and this range has five periods: no edge effect
        assert abs(ratio.mean() - 1 - bias) < 4 * ratio.std() / np.sqrt(n)
