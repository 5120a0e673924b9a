"""Every function body on a plain ONNX Runtime has the bits of the NumPy reference, without the library.

Those of products are in test_ops_bodies_products.py.
"""

import numpy as np
import onnxruntime as ort
import pytest
from native import check_body, codes, reference, refusal, run, sample, session
from one_node import Codes, model

from fourbit_onnx.errors import FormatError
from fourbit_onnx.formats import log4
from fourbit_onnx.ops.registry import FUNCTIONS

F = np.float32
HUGE, TINY = np.finfo(F).max, np.finfo(F).smallest_subnormal


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
    "odd length": sample((7,), 1, 3),
    "matrix": sample((13, 17), 2, 3),
    "image": sample((2, 3, 5, 7), 3, 12),
    "long": sample((70_001,), 4, 3),
}


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("op", ["SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale"])
def test_scales(op, x):
    check_body(op, {"x": x})


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("top", [0, 1, 4096, 2.0**-87, 2.0**115])
def test_learned_scale(top, x):
    check_body("LearnedGradientScale", {"x": x, "top": F(top)})
    check_body("LearnedGradientScale", {"x": x, "top": F(top)}, attributes={"threshold": 1.5})


@pytest.mark.parametrize("e", [-100, -87, -86, 0, 100, 126, 127])
@pytest.mark.parametrize("threshold", [1.0, 2.164, 2.5, 4.0])
def test_gradient_scale_at_its_threshold(e, threshold):
    with np.errstate(over="ignore"):
        edge = F(threshold) * F(2.0**e)
    for m in (edge, np.nextafter(edge, F(0)), np.nextafter(edge, F(np.inf))):
        if np.isfinite(m):
            check_body("GradientScale", {"x": np.array([0, -m], F)}, attributes={"threshold": threshold})


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
    check_body("QuantizeInt4", {"x": x, "scale": F(scale)}, ["codes"])
    for zero_point in (0, 7, -8, 2**17, -(2**17)):
        check_body(
            "QuantizeAffine", {"x": x, "scale": F(scale), "zero_point": np.int32(zero_point)}, ["codes"]
        )
    up = np.concatenate([x, neighbours(np.arange(0, 33) / 2 * scale)])
    check_body("QuantizePact", {"x": np.append(up, F(-np.inf)), "alpha": F(15 * scale)}, ["codes"])
    check_body("QuantizePactSigned", {"x": up, "alpha": F(7 * scale)}, ["codes"])
    for phase in (0, 1):
        grid = neighbours(log4.THRESHOLDS.astype(np.float64) * scale * (1 + phase))
        inputs = {"x": np.concatenate([grid, x]), "scale": F(scale)}
        check_body("QuantizeLog4", inputs, ["codes"], {"phase": phase})


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
def test_quantisers_of_any_shape(x):
    check_body("QuantizeInt4", {"x": x, "scale": F(0.3)}, ["codes"])
    check_body("QuantizeAffine", {"x": x, "scale": F(0.3), "zero_point": np.int32(-3)}, ["codes"])
    check_body("QuantizePact", {"x": x, "alpha": F(1.7)}, ["codes"])
    check_body("QuantizePactSigned", {"x": x, "alpha": F(1.7)}, ["codes"])
    for phase in (0, 1):
        check_body("QuantizeLog4", {"x": x, "scale": F(0.3)}, ["codes"], {"phase": phase, "threshold": 2.0})


@pytest.mark.parametrize("x", TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize(("element_type", "top"), [("uint4", 15), ("int4", 7)])
def test_pact_gradient(element_type, top, x):
    rng = np.random.default_rng(3)
    found = codes(rng, x.shape, element_type)
    extreme = rng.choice([top, -top if top == 7 else 0], x.shape)
    found.array = np.asarray(np.where(rng.random(x.shape) < 0.5, extreme, found.array))
    mask = rng.integers(0, 256, (x.size + 7) // 8).astype(np.uint8)
    inputs = {"dy": x, "codes": found, "mask": mask}
    check_body("PactGrad", inputs, attributes={"top": top})
    up = rng.integers(0, 256, mask.size).astype(np.uint8)
    check_body("PactPlusGrad", inputs | {"up": up}, attributes={"top": top})


# ------------------------------------------------------------------------------------------------ refusals


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
    assert "x_or_scale_is_not_finite" in refusal(op, inputs | {"x": x}, ["codes"], native=False)


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, -0.0])
@pytest.mark.parametrize("op", SCALE_INPUTS)
def test_quantisers_refuse_such_scales(op, scale):
    name, others = SCALE_INPUTS[op]
    given_inputs = others | {"x": np.ones(3, F), name: F(scale)}
    assert "x_or_scale_is_not_finite" in refusal(op, given_inputs, ["codes"], native=False)
    run(op, given_inputs | {"x": np.zeros((0, 3), F)}, ["codes"], native=False)  # nothing to divide


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "op", ["SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale", "LearnedGradientScale"]
)
def test_scales_refuse_what_is_not_finite(op, bad):
    inputs = {"x": np.array([0, bad, 1], F)} | ({"top": F(1)} if op == "LearnedGradientScale" else {})
    assert "x_has_nan_or_infinity" in refusal(op, inputs, native=False)
    with pytest.raises(FormatError, match=rf"needs finite numbers: \w+\[1\] is {bad}"):
        reference(op, inputs, (), {})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pact_gradient_refuses_what_is_not_finite(bad):
    inputs = {"dy": np.array([0, bad, 1], F), "codes": Codes([0, 15, 3], "uint4")}
    inputs["mask"] = np.array([7], np.uint8)
    assert "dy_has_nan_or_infinity" in refusal("PactGrad", inputs, native=False)
    inputs["up"] = inputs["mask"]
    assert "dy_has_nan_or_infinity" in refusal("PactPlusGrad", inputs, native=False)


def test_every_operator_is_tested():
    tested = {
        *SCALE_INPUTS,
        "SawbScale", "AbsMaxScale", "MinMaxScale", "GradientScale", "LearnedGradientScale",
        "PactGrad", "PactPlusGrad",
        "QConv", "QConvInputGrad", "QConvWeightGrad", "QMatMul", "QMatMulBias",  # in …_products.py
        "QConvInputGradTwoPhase", "QConvWeightGradTwoPhase", "QMatMulTwoPhase",
        "RandomUniform", "DitherScale",  # in test_ops_random_uniform.py, test_formats_dither.py
        "Relu", "AddRelu", "Clip", "ReluGrad", "SumReluGrad", "BatchNorm", "BatchNormGrad", "After", "Gelu",
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
