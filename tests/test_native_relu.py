"""Relu and Clip with a mask, and the gradient: body, kernel, NumPy, ONNX Runtime: the same bits."""

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from native import check, needs_library, refusal, run

pytestmark = needs_library
F = np.float32
SHAPES = [(0,), (), (1,), (7,), (8,), (9,), (255,), (3, 0, 2), (5, 7, 11), (2, 3, 16_384), (40_003,)]
SPECIAL = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38, 1, -1], F)
PLAIN = onnx.parser.parse_model(
    '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
    " g (float[N] a, float[N] b, float[N] d, float[N] e) => (float[N] y, float[N] dz) {"
    " z = Add (a, b) y = Relu (z) s = Sum (d, e) dz = com.microsoft.ReluGrad (s, y) }"
)


def numbers(shape, seed, special=SPECIAL):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, shape).astype(F)
    return np.where(rng.random(shape) < 0.2, rng.choice(special, shape), x).astype(F)


def finite(shape, seed):
    """To be added to `numbers`: which NaN a sum of two is, no standard says."""
    return numbers(shape, seed, SPECIAL[4:])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward(shape):
    one, two = {"x": numbers(shape, 1)}, {"a": numbers(shape, 2), "b": finite(shape, 3)}
    for op, inputs in (("Relu", one), ("AddRelu", two)):
        both = check(op, inputs)
        for i, name in enumerate(["y", "mask"]):  # the other one is not wanted
            only = run(op, inputs, (), None, [name])[0]
            assert only.tobytes() == both[i].tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-0.5, 0.25), (1.0, 1.0), (-3.4e38, 3.4e38)])
def test_clip(shape, low, high):
    x = numbers(shape, 8, np.append(SPECIAL, [F(low), F(high), np.nextafter(F(high), F(9))]))
    both = check("Clip", {"x": x}, (), {"low": low, "high": high})
    for i, name in enumerate(["y", "mask"]):
        only = run("Clip", {"x": x}, (), {"low": low, "high": high}, [name])[0]
        assert only.tobytes() == both[i].tobytes()


@given(hnp.arrays(F, st.integers(1, 70), elements=st.floats(-8, 8, width=32) | st.sampled_from([0.0, 6.0])))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_clip_is_that_of_the_runtime(x):
    """The mask is that of ONNX Runtime's gradient, ``dy * (low <= x <= high)``."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] y)'
        " <float low = {0}, float high = {6}> { y = Clip (x, low, high) }"
    )
    (y,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    found, mask = run("Clip", {"x": x})
    np.testing.assert_array_equal(found, y)
    inside = np.unpackbits(mask, count=len(x), bitorder="little")
    np.testing.assert_array_equal(inside, (x >= 0) & (x <= 6))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward(shape):
    size = int(np.prod(shape))
    mask = np.random.default_rng(4).integers(0, 256, (size + 7) // 8).astype(np.uint8)
    check("ReluGrad", {"dy": numbers(shape, 5), "mask": mask})
    check("SumReluGrad", {"dy": numbers(shape, 6), "other": finite(shape, 7), "mask": mask})


@pytest.mark.filterwarnings("ignore:invalid value")
@given(hnp.arrays(F, st.tuples(st.just(4), st.integers(1, 70)), elements=st.floats(width=32) | st.just(-0.0)))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_bits_of_the_operators_that_it_replaces(rows):
    """But for which NaN it is."""
    options = ort.SessionOptions()
    one = ort.InferenceSession(PLAIN.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y, dz = one.run(None, dict(zip("abde", rows, strict=True)))
    a, b, d, e = rows
    found, mask = run("AddRelu", {"a": a, "b": b})
    (gradient,) = run("SumReluGrad", {"dy": d, "other": e, "mask": mask})
    for ours, theirs in ((found, y), (gradient, dz)):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        good = ~np.isnan(ours)
        np.testing.assert_array_equal(ours[good].view(np.uint32), theirs[good].view(np.uint32))


def test_what_is_refused():
    x, y = np.ones((2, 9), F), np.ones((9, 2), F)
    mask = np.zeros(3, np.uint8)
    assert "b must have the shape of a, [2, 9]; it has [9, 2]" in refusal("AddRelu", {"a": x, "b": y})
    assert "mask must have 3 bytes for dy of shape [2, 9]; it has 2" in refusal(
        "ReluGrad", {"dy": x, "mask": mask[:2]}
    )
    assert "other must have the shape of dy, [2, 9]; it has [9, 2]" in refusal(
        "SumReluGrad", {"dy": x, "other": y, "mask": mask}
    )
