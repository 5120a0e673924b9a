"""What a kernel refuses, and that the sentence says which operator, which node, what was found."""

import itertools

import numpy as np
import pytest
from native import INT4, ISAS, LOG4, UINT4, codes, needs_library, refusal, run, using
from one_node import Codes

pytestmark = needs_library
F = np.float32
RNG = np.random.default_rng(0)


SCALED = {
    "QuantizeInt4": ("x", {"scale": F(1)}),
    "QuantizeAffine": ("x", {"scale": F(1), "zero_point": np.int32(0)}),
    "QuantizePact": ("x", {"alpha": F(1)}),
    "QuantizePactSigned": ("x", {"alpha": F(1)}),
    "QuantizeLog4": ("dy", {"scale": F(1)}),
    "SawbScale": ("w", {}),
    "AbsMaxScale": ("x", {}),
    "MinMaxScale": ("x", {}),
    "GradientScale": ("dy", {}),
    "LearnedGradientScale": ("dy", {"top": F(1)}),
}


NOT_FINITE = [(op, value) for op in SCALED for value in (np.nan, np.inf, -np.inf)]
NOT_FINITE.remove(("QuantizePact", -np.inf))  # it is below 0, and so is 0


@pytest.mark.parametrize(("op", "value"), NOT_FINITE)
@pytest.mark.parametrize("at", [(0, 0), (1, 3), (4, 6), (2, 5)], ids=str)
def test_not_finite(op, value, at):
    name, others = SCALED[op]
    x = np.ones((5, 7), F)
    x[at] = value
    for isa in ISAS:
        with using(isa):
            message = refusal(op, {"x": x, **others})
        assert (
            f"ai.fourbit.{op} 'node': {name} must be finite: {name}[{at[0]}, {at[1]}] is {F(value)}"
            in message
        )


def test_minus_infinity_does_not_hide_what_is_refused():
    x = np.full(40_000, -np.inf, F)
    x[30_000] = np.nan
    assert "x[30000] is nan" in refusal("QuantizePact", {"x": x, "alpha": F(1)}, threads=2)


def test_not_finite_in_a_late_block():
    x = np.zeros(100_003, F)
    x[100_002] = np.inf
    assert "x[100002] is inf" in refusal("QuantizeInt4", {"x": x, "scale": F(1)}, threads=2)


@pytest.mark.parametrize("op", [op for op, (_, others) in SCALED.items() if {"scale", "alpha"} & set(others)])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf, -0.0])
def test_scale_must_be_positive(op, value):
    _, others = SCALED[op]
    name = "alpha" if "alpha" in others else "scale"
    assert f"{name} must be finite and positive" in refusal(
        op, {"x": np.ones(3, F), **others, name: F(value)}
    )
    run(op, {"x": np.ones((0, 3), F), **others, name: F(value)}, ["codes"])  # nothing to quantise: legal


def test_one_scale_a_tensor():
    message = refusal("QuantizeInt4", {"x": np.ones(3, F), "scale": np.ones(2, F)})
    assert "scale must be one number for the whole tensor; its shape is [2]" in message


def test_pact_grad():
    dy = np.ones((2, 9), F)
    good = {"dy": dy, "codes": codes(RNG, (2, 9), "uint4"), "mask": np.zeros(3, np.uint8)}
    for size in (2, 4):
        assert f"mask must have 3 bytes for dy of shape [2, 9]; it has {size}" in refusal(
            "PactGrad", {**good, "mask": np.zeros(size, np.uint8)}
        )
    assert "codes must have the shape of dy, [2, 9]; theirs is [9, 2]" in refusal(
        "PactGrad", {**good, "codes": codes(RNG, (9, 2), "uint4")}
    )
    plus = {**good, "up": np.zeros(3, np.uint8)}
    assert "up must have 3 bytes for dy of shape [2, 9]; it has 4" in refusal(
        "PactPlusGrad", {**plus, "up": np.zeros(4, np.uint8)}
    )
    for bad, outputs in itertools.product((np.nan, np.inf, -np.inf), (["dx"], ["dalpha"], ["dx", "dalpha"])):
        dy[1, 8] = bad
        assert f"dy[1, 8] is {bad}" in refusal("PactGrad", good, outputs=outputs)
        assert f"dy[1, 8] is {bad}" in refusal("PactPlusGrad", plus, outputs=outputs)


def product(op="QMatMul", **changes):
    inputs = {
        "a": codes(RNG, (3, 4), "uint4"),
        "a_scale": F(1),
        "a_zero_point": np.int32(0),
        "b": codes(RNG, (4, 5), "int4"),
        "b_scale": F(1),
        "b_zero_point": np.int32(0),
    }
    attributes = {"a_values": UINT4, "b_values": INT4}
    for name, value in changes.items():
        (attributes if name.endswith("values") else inputs)[name] = value
    return refusal(op, inputs, (), attributes)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (5, 1), (1, 5)], ids=str)
def test_a_bias_for_each_column(shape):
    message = f"bias must have the shape [5]; its shape is [{', '.join(map(str, shape))}]"
    assert message in product("QMatMulBias", bias=np.ones(shape, F))


def test_matmul():
    assert "the depths of a and b differ: a is [3, 4], b is [5, 4]" in product(b=codes(RNG, (5, 4), "int4"))
    assert "same rank" in product(b=codes(RNG, (1, 4, 5), "int4"))
    assert "16 integers" in product(a_values=[1, 2, 3])
    assert "within ±4096" in product(a_values=[5000] * 16)
    assert "a_zero_point must be one integer" in product(a_zero_point=np.zeros(2, np.int32))
    assert "a_zero_point is 2000000" in product(a_zero_point=np.int32(2_000_000))


def conv(op="QConv", **changes):
    inputs = {
        "x": codes(RNG, (1, 4, 5, 5), "uint4"),
        "x_scale": F(1),
        "x_zero_point": np.int32(0),
        "w": codes(RNG, (6, 4, 3, 3), "int4"),
        "w_scale": F(1),
        "w_zero_point": np.int32(0),
    }
    attributes = {
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "group": 1,
        "x_values": UINT4,
        "w_values": INT4,
    }
    for name, value in changes.items():
        (attributes if name in attributes else inputs)[name] = value
    return refusal(op, inputs, (), attributes)


def test_conv():
    assert "x is [1, 4, 5, 5], w is [6, 3, 3, 3], group is 1" in conv(w=codes(RNG, (6, 3, 3, 3), "int4"))
    assert "group must divide the filters" in conv(group=4, w=codes(RNG, (6, 1, 3, 3), "int4"))
    assert "the kernel is larger than the padded input" in conv(w=codes(RNG, (6, 4, 6, 3), "int4"))
    assert "entry a spatial dimension" in conv(strides=(1,))
    assert "pads not negative" in conv(pads=(0, -1, 0, 0))
    assert "same rank" in conv(w=codes(RNG, (6, 4, 3), "int4"))


def test_gradients_of_a_shape_that_does_not_fit():
    attributes = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1, "dy_values": LOG4}
    dy = Codes(np.zeros((1, 6, 3, 2), int), "uint4")
    w = codes(RNG, (6, 4, 3, 3), "int4")
    message = refusal(
        "QConvInputGrad",
        {
            "dy": dy,
            "dy_scale": F(1),
            "w": w,
            "w_scale": F(1),
            "w_zero_point": np.int32(0),
            "x_shape": np.array([1, 4, 5, 5]),
        },
        (),
        {**attributes, "w_values": INT4},
    )
    assert "dy must have the shape of the output, [1, 6, 3, 3]; it is [1, 6, 3, 2]" in message
    x = codes(RNG, (1, 4, 5, 5), "uint4")
    for shape, reason in [([6, 4, 3, 3], "[1, 6, 3, 3]"), ([6, 4, -3, 3], "negative sizes")]:
        message = refusal(
            "QConvWeightGrad",
            {
                "x": x,
                "x_scale": F(1),
                "x_zero_point": np.int32(0),
                "dy": dy,
                "dy_scale": F(1),
                "w_shape": np.array(shape),
            },
            (),
            {**attributes, "x_values": UINT4},
        )
        assert reason in message


def test_both_phases():
    even, odd = codes(RNG, (1, 6, 3, 3), "uint4"), codes(RNG, (1, 6, 9), "uint4")
    message = "both phases of dy must have one shape; they are [1, 6, 3, 3] and [1, 6, 9]"
    geometry = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
    dy = {"dy_even": even, "dy_odd": odd, "dy_scale": F(1)}
    x = {"x": codes(RNG, (1, 4, 5, 5), "uint4"), "x_scale": F(1), "x_zero_point": np.int32(0)}
    w = {"w": codes(RNG, (6, 4, 3, 3), "int4"), "w_scale": F(1), "w_zero_point": np.int32(0)}
    a = {"a": codes(RNG, (1, 6, 4, 3), "uint4"), "a_scale": F(1), "a_zero_point": np.int32(0)}
    cases = [
        ("QConvWeightGradTwoPhase", {**x, **dy, "w_shape": np.array([6, 4, 3, 3])}, {"x_values": UINT4}),
        ("QConvInputGradTwoPhase", {**dy, **w, "x_shape": np.array([1, 4, 5, 5])}, {"w_values": INT4}),
        ("QMatMulTwoPhase", {**a, **dy}, {"a_values": UINT4}),
    ]
    for op, inputs, values in cases:
        assert message in refusal(op, inputs, (), values if op == "QMatMulTwoPhase" else geometry | values)
    for (op, inputs, values), name in zip(cases, ("x", "w", "a"), strict=True):
        far = inputs | {"dy_odd": even, f"{name}_zero_point": np.int32(2_000_000)}
        more = values if op == "QMatMulTwoPhase" else geometry | values
        assert f": {name}_zero_point is 2000000" in refusal(op, far, (), more)
    bad = {**a, **dy, "dy_even": odd, "dy_odd": odd}
    assert "a and dy must have the same rank" in refusal("QMatMulTwoPhase", bad, (), {"a_values": UINT4})
    assert "the depths of a and dy differ" in refusal(
        "QMatMulTwoPhase", {**a, **dy, "dy_odd": even}, (), {"a_values": UINT4, "trans_a": 1}
    )
    small = codes(RNG, (1, 6, 3, 2), "uint4")  # of both phases, but not of the output
    for op, inputs, values in cases[:2]:
        bad = {**inputs, "dy_even": small, "dy_odd": small}
        assert "the shape of the output, [1, 6, 3, 3]; it is [1, 6, 3, 2]" in refusal(
            op, bad, (), geometry | values
        )


def test_phase():
    assert "phase must be 0 (even) or 1 (odd); it is 2" in refusal(
        "QuantizeLog4", {"x": np.ones(3, F), "scale": F(1)}, (), {"phase": 2}
    )
