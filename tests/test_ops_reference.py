"""The NumPy reference of scale rules and quantisers: inputs and outputs as the operators have them."""

import numpy as np
import pytest
from exact import bits

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import absmax, packing, sawb
from fourbit_onnx.ops import reference

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 5)).astype(np.float32)


def test_every_operator_has_a_reference():
    from fourbit_onnx.ops.registry import FUNCTIONS

    missing = set(reference.REFERENCES) - set(FUNCTIONS)
    assert not missing, "a reference of no operator"
    assert {"SawbScale", "QuantizeLog4", "PactGrad", "QConv", "QMatMul"} <= set(reference.REFERENCES)
    names = [f.__name__ for f in reference.REFERENCES.values()]
    assert sorted(names) == [n for n in reference.__all__ if n != "REFERENCES"]
    assert [n.replace("_", "") for n in names] == [op.lower() for op in reference.REFERENCES]


def test_scales_take_arrays_and_return_float32():
    one = np.array(1, np.float32)  # a 0-d tensor, as ONNX Runtime gives it
    for scale in (reference.sawb_scale(X), reference.abs_max_scale(X), reference.gradient_scale(X)):
        assert scale.dtype == np.float32
        assert np.shape(scale) == ()
    assert reference.sawb_scale(X) == sawb.scale(X) != absmax.scale(X) == reference.abs_max_scale(X)
    assert reference.gradient_scale(X * 0 + 1, threshold=1.0) == 2.0**-12
    assert reference.gradient_scale(X * 0 + 1) == 2.0**-13
    assert reference.learned_gradient_scale(X * 0 + 2, one) == (2.0**-12, 1)
    assert reference.learned_gradient_scale(X * 0 + 2, one, threshold=1.5) == (2.0**-12, 2)
    scale, zero_point = reference.min_max_scale(np.array([0, 1], np.float32))
    assert (scale, zero_point, zero_point.dtype) == (np.float32(1 / 15), -8, np.int32)


def test_quantize_int4_is_symmetric_and_affine_is_not():
    x = np.array([-100, -1.5, -0.0, 0.5, 100], np.float32)
    codes = reference.quantize_int4(x, np.array(1, np.float32))
    assert (codes.tolist(), codes.dtype) == ([-7, -2, 0, 0, 7], np.int8)
    codes = reference.quantize_affine(x, 1.0, np.array(-3, np.int32))
    assert (codes.tolist(), codes.dtype) == ([-8, -5, -3, -3, 7], np.int8)


def test_quantize_pact():
    x = np.array([[-1, 0, 0.5], [1, 1.5, 0.99]], np.float32)
    codes, scale, mask, up = reference.quantize_pact(x, 1.0)
    assert (codes.tolist(), codes.dtype) == ([[0, 0, 7], [15, 15, 15]], np.uint8)
    assert scale == np.float32(1) / np.float32(15)
    assert (mask.tolist(), mask.dtype) == ([0b100100], np.uint8)
    assert (up.tolist(), up.dtype) == ([0b100000], np.uint8)  # 14.85; 14.99… is outside
    codes, scale, mask, up = reference.quantize_pact_signed(x, np.array(1, np.float32))
    assert (codes.tolist(), codes.dtype) == (
        [[-7, 0, 3], [7, 7, 7]],
        np.int8,
    )  # 0.5 / float32(1/7) is below 3.5
    assert scale == np.float32(1) / np.float32(7)
    assert (mask.tolist(), up.tolist()) == ([0b100110], [0b100000])


@pytest.mark.parametrize("alpha", [1.0, 0.0, np.nan])
def test_quantize_pact_of_nothing(alpha):
    for quantize in (reference.quantize_pact, reference.quantize_pact_signed):
        codes, scale, *masks = quantize(np.zeros((2, 0), np.float32), alpha)
        assert (codes.shape, scale.dtype) == ((2, 0), np.float32)
        assert [mask.shape for mask in masks] == [(0,), (0,)]


@pytest.mark.parametrize(("phase", "codes"), [(0, [0, 9, 2, 15, 0]), (1, [0, 0, 1, 15, 0])])
def test_quantize_log4(phase, codes):
    x = np.array([0.25, -0.7, 2.51, -1e9, 0.0], np.float32)
    found, scale = reference.quantize_log4(x, np.array(1, np.float32), phase=phase)
    assert (found.tolist(), found.dtype) == (codes, np.uint8)
    assert (scale, scale.dtype) == (1 + phase, np.float32)
    if phase == 0:
        np.testing.assert_array_equal(reference.quantize_log4(x, 1)[0], found)


@pytest.mark.parametrize(
    ("quantize", "top"), [(reference.quantize_pact, 15), (reference.quantize_pact_signed, 7)]
)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_pact_grad(quantize, top, count):
    """Integers as gradients, the largest a power of two: fixed-point sums are exact then."""
    rng = np.random.default_rng(count)
    x = (rng.standard_normal(count) * 2).astype(np.float32)
    dy = rng.integers(-64, 65, count).astype(np.float32)
    dy[:1] = 64
    codes, _, mask, _ = quantize(x, 1.0)
    dx, dalpha = reference.pact_grad(dy, codes, mask, top=top)
    inside = (np.abs(x) < 1) & ((x > 0) | (top == 7))
    np.testing.assert_array_equal(packing.unpack_bits(mask, x.shape), inside)
    np.testing.assert_array_equal(bits(dx), bits(np.where(inside, dy, 0)))
    assert dalpha == dy[x >= 1].sum() - (dy[x <= -1].sum() if top == 7 else 0)
    assert (dx.dtype, dalpha.dtype) == (np.float32, np.float32)


def test_pact_grad_has_uint4_as_default():
    assert reference.pact_grad([1.0], [15], [0])[1] == 1
    assert reference.pact_grad([1.0], [7], [0])[1] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "name",
    [  # those of blocks are in test_ops_blocks.py; DitherScale sees no tensor, but the scale made from it
        n
        for n in reference.REFERENCES
        if ("Scale" in n or "Quant" in n or "Pact" in n) and "Block" not in n and n != "DitherScale"
    ],
)
def test_every_scale_rule_and_quantiser_refuses_what_is_not_finite(name, bad):
    x = np.array([[1.0, bad]], np.float32)
    rest = {"QuantizeAffine": [1.0, 0], "PactGrad": [np.zeros((1, 2)), np.zeros(1, np.uint8)]}
    rest["PactPlusGrad"] = [*rest["PactGrad"], np.zeros(1, np.uint8)]
    if name.endswith("Stochastic"):
        rest[name] = [1.0, np.zeros((1, 2))]
    attributes = {"levels": range(8)} if name == "QuantizeLogStochastic" else {}
    inputs = rest.get(name, [1.0] if name.startswith(("Quant", "Learned")) else [])
    with pytest.raises(FormatError, match=rf"\[0, 1\] is {bad}"):
        reference.REFERENCES[name](x, *inputs, **attributes)
