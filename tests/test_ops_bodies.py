"""Every function body on a plain ONNX Runtime has the bits of the NumPy reference, without the library."""

import math

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native import INT4, LOG4, UINT4, assert_same_bits, codes, reference, run, session
from one_node import Codes, model

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import log4
from fourbit_onnx.ops.registry import FUNCTIONS

F = np.float32
HUGE, TINY = np.finfo(F).max, np.finfo(F).smallest_subnormal
EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)


def agrees(op, inputs, code_outputs=(), attributes=None):
    expected = reference(op, inputs, code_outputs, attributes)
    assert_same_bits(run(op, inputs, code_outputs, attributes, native=False), expected)


def sample(shape, seed=0, spread=3.0):
    """Magnitudes over many powers of two, some zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * np.exp2(rng.uniform(-spread, spread, shape))
    return np.where(rng.random(shape) < 0.1, 0, x).astype(F)


TENSORS = {
    "no element": np.zeros((0,), F),
    "no row": np.zeros((3, 0, 2), F),
    "a number": np.array(-1.5, F),
    "one": np.array([2.0], F),
    "zeros": np.zeros((5,), F),
    "minus zero": np.array([-0.0, 0.0, 1], F),
    "all equal": np.full((9,), -0.3, F),
    "nearly equal": np.array([1, np.nextafter(F(1), F(2))], F),
    "subnormal": np.array([TINY, -3 * TINY, 0], F),
    "huge": np.array([HUGE, -HUGE, 1], F),
    "all powers": np.ldexp(F(1), np.arange(-149, 128)).astype(F),
    "odd length": sample((7,), 1),
    "matrix": sample((13, 17), 2),
    "image": sample((2, 3, 5, 7), 3, 12),
    "long": sample((70_001,), 4),
}


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("op", ["SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale"])
def test_scales(op, x):
    agrees(op, {"x": x})


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("top", [0, 1, 4096, 2.0**-87, 2.0**115])
def test_learned_scale(top, x):
    agrees("LearnedGradientScale", {"x": x, "top": F(top)})
    agrees("LearnedGradientScale", {"x": x, "top": F(top)}, attributes={"threshold": 1.5})


@pytest.mark.parametrize("e", [-100, -87, -86, 0, 100, 126, 127])
@pytest.mark.parametrize("threshold", [1.0, 2.164, 2.5, 4.0])
def test_gradient_scale_at_its_threshold(e, threshold):
    with np.errstate(over="ignore"):
        edge = F(threshold) * F(2.0**e)
    for m in (edge, np.nextafter(edge, F(0)), np.nextafter(edge, F(np.inf))):
        if np.isfinite(m):
            agrees("GradientScale", {"x": np.array([0, -m], F)}, attributes={"threshold": threshold})


def neighbours(values):
    values = np.asarray(values, np.float64).astype(F).ravel()
    around = [values, np.nextafter(values, F(np.inf)), np.nextafter(values, F(-np.inf))]
    found = np.concatenate([*around, *(-v for v in around)])
    return found[np.isfinite(found)]


SCALES = [1.0, 2.0**-100, 3e-30, 1e30, *np.random.default_rng(7).uniform(0.01, 10, 6)]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_quantisers_at_every_threshold(scale):
    """A body that multiplied by 1 / scale, or rounded half away from zero, would differ here."""
    halves = np.arange(-18, 19) / 2
    x = np.concatenate([neighbours(halves * scale), [0, -0.0, TINY, -TINY, HUGE, -HUGE]]).astype(F)
    agrees("QuantizeInt4", {"x": x, "scale": F(scale)}, ["codes"])
    for zero_point in (0, 7, -8, 2**17, -(2**17)):
        agrees("QuantizeAffine", {"x": x, "scale": F(scale), "zero_point": np.int32(zero_point)}, ["codes"])
    up = np.concatenate([x, neighbours(np.arange(0, 33) / 2 * scale)])
    agrees("QuantizePact", {"x": np.append(up, F(-np.inf)), "alpha": F(15 * scale)}, ["codes"])
    agrees("QuantizePactSigned", {"x": up, "alpha": F(7 * scale)}, ["codes"])
    for phase in (0, 1):
        grid = neighbours(log4.THRESHOLDS.astype(np.float64) * scale * (1 + phase))
        inputs = {"x": np.concatenate([grid, x]), "scale": F(scale)}
        agrees("QuantizeLog4", inputs, ["codes"], {"phase": phase})


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
def test_quantisers_of_any_shape(x):
    agrees("QuantizeInt4", {"x": x, "scale": F(0.3)}, ["codes"])
    agrees("QuantizeAffine", {"x": x, "scale": F(0.3), "zero_point": np.int32(-3)}, ["codes"])
    agrees("QuantizePact", {"x": x, "alpha": F(1.7)}, ["codes"])
    agrees("QuantizePactSigned", {"x": x, "alpha": F(1.7)}, ["codes"])
    for phase in (0, 1):
        agrees("QuantizeLog4", {"x": x, "scale": F(0.3)}, ["codes"], {"phase": phase, "threshold": 2.0})


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize(("element_type", "top"), [("uint4", 15), ("int4", 7)])
def test_pact_gradient(element_type, top, x):
    rng = np.random.default_rng(3)
    found = codes(rng, x.shape, element_type)
    extreme = rng.choice([top, -top if top == 7 else 0], x.shape)
    found.array = np.asarray(np.where(rng.random(x.shape) < 0.5, extreme, found.array))
    mask = rng.integers(0, 256, (x.size + 7) // 8).astype(np.uint8)
    agrees("PactGrad", {"dy": x, "codes": found, "mask": mask}, attributes={"top": top})


# ------------------------------------------------------------------------------------------------ refusals


def refusal(op, inputs, code_outputs=(), attributes=None):
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument) as error:
        run(op, inputs, code_outputs, attributes, native=False)
    return str(error.value)


SCALE_INPUTS = {
    "QuantizeInt4": ("scale", {"x": None, "scale": F(1)}),
    "QuantizeAffine": ("scale", {"x": None, "scale": F(1), "zero_point": np.int32(0)}),
    "QuantizePact": ("alpha", {"x": None, "alpha": F(1)}),
    "QuantizePactSigned": ("alpha", {"x": None, "alpha": F(1)}),
    "QuantizeLog4": ("scale", {"x": None, "scale": F(1)}),
}


NOT_FINITE = [(op, bad) for op in SCALE_INPUTS for bad in (np.nan, np.inf, -np.inf)]
NOT_FINITE.remove(("QuantizePact", -np.inf))  # it is below 0, and so is 0


@pytest.mark.parametrize("at", [0, 4, 8])
@pytest.mark.parametrize(("op", "bad"), NOT_FINITE)
def test_quantisers_refuse_what_is_not_finite(op, bad, at):
    """The first, the last and one in between; the error carries the name of the node in the body."""
    inputs, x = SCALE_INPUTS[op][1], np.where(np.arange(9) == at, F(bad), F(1))
    assert "x_or_scale_is_not_finite" in refusal(op, inputs | {"x": x}, ["codes"])


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, -0.0])
@pytest.mark.parametrize("op", SCALE_INPUTS)
def test_quantisers_refuse_such_scales(op, scale):
    name, others = SCALE_INPUTS[op]
    given_inputs = others | {"x": np.ones(3, F), name: F(scale)}
    assert "x_or_scale_is_not_finite" in refusal(op, given_inputs, ["codes"])
    run(op, given_inputs | {"x": np.zeros((0, 3), F)}, ["codes"], native=False)  # nothing to divide


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "op", ["SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale", "LearnedGradientScale"]
)
def test_scales_refuse_what_is_not_finite(op, bad):
    inputs = {"x": np.array([0, bad, 1], F)} | ({"top": F(1)} if op == "LearnedGradientScale" else {})
    assert "x_has_nan_or_infinity" in refusal(op, inputs)
    with pytest.raises(FormatError):
        reference(op, inputs, (), {})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pact_gradient_refuses_what_is_not_finite(bad):
    inputs = {"dy": np.array([0, bad, 1], F), "codes": Codes([0, 15, 3], "uint4")}
    inputs["mask"] = np.array([7], np.uint8)
    assert "dy_has_nan_or_infinity" in refusal("PactGrad", inputs)


# ------------------------------------------------------------------------------------------------ products

KINDS = {"uint4": UINT4, "int4": INT4}
NO_ZERO = np.int32(0)


@st.composite
def geometries(draw, dims=None):
    """Attributes of a convolution of 1 to 3 dimensions, and the shapes of x and w."""
    rank = dims or draw(st.integers(1, 3))

    def each(low, high):
        return [draw(st.integers(low, high)) for _ in range(rank)]

    kernel, strides, dilations, pads = each(1, 3), each(1, 3), each(1, 2), each(0, 2) + each(0, 2)
    size = [
        max(1, (k - 1) * d + 1 - pads[i] - pads[i + rank]) + draw(st.integers(0, 4))
        for i, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    ]
    group = draw(st.integers(1, 3))
    inputs, outputs = (group * draw(st.integers(1, 3)) for _ in range(2))
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    return attributes, (draw(st.integers(1, 3)), inputs, *size), (outputs, inputs // group, *kernel)


def output_shape(attributes, x_shape, w_shape):
    rank, pads = len(w_shape) - 2, attributes["pads"]
    spatial = [
        (x_shape[i + 2] + pads[i] + pads[i + rank] - (w_shape[i + 2] - 1) * attributes["dilations"][i] - 1)
        // attributes["strides"][i]
        + 1
        for i in range(rank)
    ]
    return (x_shape[0], w_shape[0], *spatial)


@EXAMPLES
@given(geometries(), st.sampled_from(["uint4", "int4"]), st.sampled_from([(0, 0), (3, 0), (0, -8), (-5, 7)]))
def test_convolution(geometry, kind, zero_points):
    attributes, x_shape, w_shape = geometry
    rng = np.random.default_rng(math.prod(x_shape))
    inputs = {
        "x": codes(rng, x_shape, kind, -8),
        "x_scale": F(0.37),
        "x_zero_point": np.int32(zero_points[0]),
        "w": codes(rng, w_shape, "int4", -8),
        "w_scale": F(0.0113),
        "w_zero_point": np.int32(zero_points[1]),
    }
    agrees("QConv", inputs, (), attributes | {"x_values": KINDS[kind], "w_values": INT4})


@EXAMPLES
@given(geometries(), st.sampled_from([0, 3, -8]))
def test_input_gradient(geometry, zero_point):
    attributes, x_shape, w_shape = geometry
    rng = np.random.default_rng(math.prod(x_shape))
    inputs = {
        "dy": codes(rng, output_shape(*geometry), "uint4"),
        "dy_scale": F(0.37),
        "w": codes(rng, w_shape, "int4", -8),
        "w_scale": F(0.0113),
        "w_zero_point": np.int32(zero_point),
        "x_shape": np.array(x_shape),
    }
    agrees("QConvInputGrad", inputs, (), attributes | {"dy_values": LOG4, "w_values": INT4})


@EXAMPLES
@given(geometries(), st.sampled_from(["uint4", "int4"]), st.sampled_from([0, 3, -8]))
def test_weight_gradient(geometry, kind, zero_point):
    attributes, x_shape, w_shape = geometry
    rng = np.random.default_rng(math.prod(x_shape))
    inputs = {
        "x": codes(rng, x_shape, kind, -8),
        "x_scale": F(0.37),
        "x_zero_point": np.int32(zero_point),
        "dy": codes(rng, output_shape(*geometry), "uint4"),
        "dy_scale": F(0.0113),
        "w_shape": np.array(w_shape),
    }
    agrees("QConvWeightGrad", inputs, (), attributes | {"x_values": KINDS[kind], "dy_values": LOG4})


sizes = st.integers(1, 7)


@EXAMPLES
@given(
    st.lists(st.integers(0, 3), max_size=2),
    st.tuples(sizes, sizes, sizes),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from([(UINT4, INT4), (LOG4, INT4), (INT4, LOG4), (LOG4, LOG4)]),
    st.sampled_from([(0, 0), (3, 0), (0, -8), (131072, -131072)]),
)
def test_matrices(batch, mkn, trans, values, zero_points):
    (m, k, n), (trans_a, trans_b) = mkn, trans
    rng = np.random.default_rng(m * k * n)
    types = ["int4" if table is INT4 else "uint4" for table in values]
    inputs = {
        "a": codes(rng, (*batch, k, m) if trans_a else (*batch, m, k), types[0], -8),
        "a_scale": F(0.37),
        "a_zero_point": np.int32(zero_points[0]),
        "b": codes(rng, (*batch, n, k) if trans_b else (*batch, k, n), types[1], -8),
        "b_scale": F(0.0113),
        "b_zero_point": np.int32(zero_points[1]),
    }
    attributes = {"a_values": values[0], "b_values": values[1], "trans_a": trans_a, "trans_b": trans_b}
    agrees("QMatMul", inputs, (), attributes)
    agrees("QMatMulBias", inputs | {"bias": rng.normal(0, 1, n).astype(F)}, (), attributes)


@pytest.mark.parametrize("depth", [17_475, 60_000])
def test_the_deepest_sums_are_exact(depth):
    """Extremes of the contract: 15 * 4096 * depth is far above 2**24 and, for the second, 2**31."""
    inputs = {
        "a": Codes(np.full((1, depth), 15), "uint4"),
        "a_scale": F(1),
        "a_zero_point": NO_ZERO,
        "b": Codes(np.full((depth, 1), 7), "uint4"),
        "b_scale": F(1),
        "b_zero_point": NO_ZERO,
    }
    inputs["b"].array[0] = 1  # 1 instead of 4096: an inexact sum would lose it
    (y,) = run("QMatMul", inputs, (), {"a_values": UINT4, "b_values": LOG4}, native=False)
    assert y == F(15 * 4096 * (depth - 1) + 15)


def test_the_longest_input_gradient_is_exact():
    """17,475 output channels of 1 x 1: the most that `select_sites` lets through."""
    depth = 17_475
    inputs = {
        "dy": Codes(np.full((1, depth, 1), 7), "uint4"),
        "dy_scale": F(1),
        "w": Codes(np.full((depth, 1, 1), 7), "int4"),
        "w_scale": F(1),
        "w_zero_point": np.int32(-8),
        "x_shape": np.array([1, 1, 1]),
    }
    attributes = {"strides": [1], "pads": [0, 0], "dilations": [1], "group": 1}
    agrees("QConvInputGrad", inputs, (), attributes | {"dy_values": LOG4, "w_values": INT4})


def test_every_operator_is_tested():
    tested = {
        *SCALE_INPUTS,
        "SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale", "LearnedGradientScale",
        "PactGrad", "QConv", "QConvInputGrad", "QConvWeightGrad", "QMatMul", "QMatMulBias",
        "RandomUniform", "DitherScale",  # in test_ops_random_uniform.py, test_formats_dither.py
        "Relu", "AddRelu", "ReluGrad", "SumReluGrad", "BatchNorm", "BatchNormGrad", "After", "Gelu",
        "GeluGrad", "GatherGrad", "LayerNorm", "LayerNormGrad", "LstmCell", "LstmCellGrad", "UnderflowScale",
        "QuantizeLog2", "QuantizeInt4Stochastic", "QuantizeLogStochastic",  # in test_ops_stochastic.py
        "Nvfp4Scale", "Mxfp4Scale", "Block16Scale", "BlockHadamard", "QBlockMatMul",  # in test_ops_blocks.py
        "QuantizeE2M1Blocks", "QuantizeE2M1BlocksStochastic", "SumRows", "SoftmaxGrad", "TransposeCodes",
        "QuantizeInt4Blocks", "QuantizeInt4BlocksStochastic", "SgdUpdate", "AdamWUpdate", "JoinCodes",
    }  # fmt: skip
    assert tested == set(FUNCTIONS)


@pytest.mark.parametrize("op", SCALE_INPUTS)
def test_no_library_runs_here(op):
    """The session has no custom operators: the nodes are those of the body."""
    _, inputs = SCALE_INPUTS[op]
    proto = model(op, inputs | {"x": np.ones(3, F)}, ["codes"])
    del proto.functions[:]
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.Fail, match="is not a registered function/op"):
        session(proto, native=False)
